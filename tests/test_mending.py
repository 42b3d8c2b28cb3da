"""What a kill, a full disk, a damaged remote, an empty folder or another user leaves: mended, or one sentence."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from dvc.repo import Repo
from torch import nn

from novelseg.core.errors import InputError
from novelseg.core.files import system_refused, whole_file, writing_refused
from novelseg.core.lock import exclusive
from novelseg.training import loop
from tests.engines import call, environment, git, set_values, snakemake
from tests.inprocess import changed_for_dvc, command, inside, resting, stale_jobs
from tests.makers import Project
from workflow import engine, lockfile, records
from workflow.__main__ import main as workflow
from workflow.config import load
from workflow.plan import require_folders, resolve, unset_variable
from workflow.tracking import refuse_config

LOCK = """\
schema: '2.0'
stages:
  images:
    cmd:
    - snakemake images_all
    deps:
    - path: stages/images.py
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 12
    params:
      params.yaml:
        images:
          shards: 2
    outs:
    - path: artifacts/images
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 12
      nfiles: 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder in which a damaged file counts as damaged at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lockfile, "STEADY_S", 0.0)
    return tmp_path


# ---- dvc.lock and the list of running commands


def test_a_lock_cut_anywhere_is_whole_for_us_only_if_dvc_accepts_it() -> None:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    accepted = 0
    for end in range(0, len(LOCK), 3):
        try:
            COMPILED_LOCKFILE_SCHEMA(parse_yaml(LOCK[:end], "dvc.lock"))
        except Exception:  # noqa: BLE001  (its errors have no common class)
            assert not lockfile.is_whole(LOCK[:end].encode()), LOCK[:end]
            continue
        accepted += 1
        assert (
            lockfile.is_whole(LOCK[:end].encode())
            or "md5: 012" in LOCK[:end][-40:]
            or LOCK[:end].rstrip().endswith("md5:")
        )
    assert accepted > 10


@pytest.mark.parametrize("end", [0, 5, 60, 300])
def test_a_torn_lock_is_put_back_and_kept_aside(folder: Path, end: int, capsys: pytest.CaptureFixture[str]) -> None:
    lock = folder / "dvc.lock"
    lock.write_text(LOCK)
    lockfile.mend()
    assert (folder / ".cache/dvc.lock").read_text() == LOCK
    torn = LOCK[:end].rstrip("\n") + ("x: [" if end else "")
    lock.write_text(torn)
    lockfile.mend()
    assert lock.read_text() == LOCK
    assert (folder / ".cache/dvc.lock.torn").read_text() == torn
    assert "dvc.lock was incomplete, as after a kill or on a full disk" in capsys.readouterr().err


def test_conflicts_of_a_merge_are_left_to_people_and_a_lock_without_a_copy_is_moved(folder: Path) -> None:
    lock = folder / "dvc.lock"
    lock.write_text(f"<<<<<<< HEAD\n{LOCK}=======\n>>>>>>> other\n")
    lockfile.mend()
    assert lock.read_text().startswith("<<<<<<<")
    lock.write_text("schema: '2")
    lockfile.mend()
    assert not lock.exists()
    assert (folder / ".cache/dvc.lock.torn").read_text() == "schema: '2"


def test_a_file_that_is_being_written_is_not_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "STEADY_S", 0.5)
    lock = folder / "dvc.lock"
    lock.write_text("schema: '2")
    monkeypatch.setattr(time, "sleep", lambda _: lock.write_text(LOCK))
    lockfile.mend()
    assert lock.read_text() == LOCK
    assert not (folder / ".cache/dvc.lock.torn").exists()


@pytest.mark.parametrize("content", ["", '{"read": {', "[]"])
def test_a_torn_list_of_running_commands_is_removed(folder: Path, content: str) -> None:
    running = folder / ".dvc/tmp/rwlock"
    running.parent.mkdir(parents=True)
    running.write_text('{"read": {}}')
    lockfile.mend()
    assert running.exists()
    running.write_text(content)
    lockfile.mend()
    assert not running.exists()


@pytest.mark.engines
def test_the_next_command_mends_a_torn_lock(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "STEADY_S", 0.0)
    assert "agree" in command(mate, "audit")
    whole = (mate / "dvc.lock").read_text()
    for torn in ("", whole[:-40] + "\n  - ["):
        (mate / "dvc.lock").write_text(torn)
        (mate / ".dvc/tmp/rwlock").write_text("")
        assert "recorded in dvc.lock" in command(mate, "record")
        assert (mate / "dvc.lock").read_text() == whole
    assert resting(mate)


@pytest.mark.engines
def test_outputs_that_a_failed_job_has_removed_are_made_again(mate: Path, tmp_path: Path) -> None:
    made = mate / "artifacts/evaluate/fold0/1shot"
    names = sorted(path.name for path in made.iterdir() if path.name != ".gitignore")
    (made / "about.json").unlink()
    (tmp_path / "first.py").write_text("import sys\nif sys.argv[1:2] == ['evaluate']:\n    sys.exit(1)\n")
    snakemake(mate, rc=1, RUN_FIRST=str(tmp_path / "first.py"))
    assert not (made / "rows.parquet").exists()
    assert "recorded in dvc.lock" in snakemake(mate)
    assert sorted(path.name for path in made.iterdir() if path.name != ".gitignore") == names
    assert resting(mate)


@pytest.mark.engines
def test_record_writes_the_lock_once_and_never_in_place(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (mate / "dvc.lock").read_text()
    values = yaml.safe_load(whole)
    del values["stages"]["report"]
    (mate / "dvc.lock").write_text(yaml.safe_dump(values, sort_keys=False))
    inode = (mate / "dvc.lock").stat().st_ino
    assert "recorded" in command(mate, "record")
    assert (mate / "dvc.lock").stat().st_ino != inode
    assert yaml.safe_load((mate / "dvc.lock").read_text()) == yaml.safe_load(whole)


@pytest.mark.engines
def test_pull_trusts_no_list_of_files_that_a_killed_one_has_left(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(mate, "pull")
    monkeypatch.chdir(mate)
    with Repo() as repo:
        index = repo.data_index
        keys = [key for key, _ in index.iteritems() if "features" in key and key[-1].endswith(".h5")]
        for key in keys:
            index.delete_node(key)
        index.commit()
        index.close()
    assert len(keys) == 2
    shutil.rmtree(mate / "artifacts/features")
    command(mate, "pull")
    assert len(list((mate / "artifacts/features").rglob("*.h5"))) == 2


# ---- scratch files of killed processes


@pytest.mark.engines
def test_what_a_killed_stage_was_writing_is_removed_and_what_a_living_one_writes_is_named(mate: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    file = mate / f"artifacts/features/fold0/.0.h5.{dead.pid}.tmp"
    file.write_bytes(b"half")
    folder = mate / f"artifacts/evaluate/fold0/.1shot.{dead.pid}.tmp"
    folder.mkdir()
    (folder / "rows.parquet").write_bytes(b"half")
    assert "recorded in dvc.lock" in command(mate, "record")
    assert not file.exists()
    assert not folder.exists()
    living = mate / f"artifacts/features/fold0/.0.h5.{os.getpid()}.tmp"
    living.touch()
    printed = command(mate, "record", rc=2)
    assert f"process {os.getpid()} is writing it; wait until it ends" in printed
    assert living.exists()


def test_two_trainings_write_their_checkpoint_under_two_names(tmp_path: Path) -> None:
    saved: list[Path] = []

    def save(path: Path, state: object) -> None:
        saved.append(path)
        torch.save(state, path)

    fabric = SimpleNamespace(is_global_zero=True, save=save)
    layer = nn.Linear(1, 1)
    checkpoint = tmp_path / ".1shot.checkpoint"
    loop._save(fabric, checkpoint, "r", layer, torch.optim.SGD(layer.parameters(), 0.1), [torch.zeros(1)])
    assert str(os.getpid()) in saved[0].name
    assert records.SCRATCH.match(saved[0].name)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


# ---- the remote


def md5_of(mate: Path, path: str) -> str:
    """MD5 of an artifact, by dvc.lock for a folder."""
    if (mate / path).is_file():
        return hashlib.md5((mate / path).read_bytes()).hexdigest()
    outs = [
        out for stage in yaml.safe_load((mate / "dvc.lock").read_text())["stages"].values() for out in stage["outs"]
    ]
    return next(str(out["md5"]) for out in outs if out["path"] == path)


@pytest.mark.engines
def test_what_is_damaged_in_the_remote_is_refused_and_named(pulled: Path, team: Path, tmp_path: Path) -> None:
    """Must show 5: an object emptied, one altered, a list of files damaged in two ways; then what is missing."""
    remote, other = shutil.copytree(team / "shared", tmp_path / "remote"), tmp_path / "other"
    git(tmp_path, "clone", "-q", str(team / "origin.git"), "other")
    call(other, "python", "-m", "dvc", "remote", "add", "-q", "-f", "--local", "-d", "shared", str(remote))

    def damage(path: str, change: Callable[[bytes], bytes]) -> None:
        md5 = md5_of(pulled, path)
        file = remote / "files/md5" / md5[:2] / md5[2:]
        whole = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(change(whole))
        shutil.rmtree(other / ".dvc/cache", ignore_errors=True)
        told = command(other, "pull", rc=2)
        assert "nothing was put in place, since the remote does not have what dvc.lock names" in told
        assert path in told
        assert not (other / "artifacts").exists()
        file.write_bytes(whole)

    damage("artifacts/features/fold0/1.h5", lambda _: b"")
    damage("artifacts/regions/0.h5", lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    damage("artifacts/hierarchies", lambda _: b"[]")
    damage("artifacts/prototypes", lambda _: b'[{"md5": 5}]')
    md5 = md5_of(pulled, "artifacts/index/index.h5")
    (remote / "files/md5" / md5[:2] / md5[2:]).rename(remote / "away")
    shutil.rmtree(other / ".dvc/cache", ignore_errors=True)
    assert "artifacts/index: the list of its files, or one of them, is not in the remote" in command(
        other, "pull", rc=2
    )
    (remote / "away").rename(remote / "files/md5" / md5[:2] / md5[2:])
    command(other, "pull")
    assert resting(other)


@pytest.mark.engines
def test_dvc_is_not_believed_about_what_it_has_not_read(mate: Path) -> None:
    """DVC takes an altered object of the cache for what its name says; the judge reads it."""
    md5 = md5_of(mate, "artifacts/index/index.h5")
    cached = mate / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    content = cached.read_bytes()
    cached.chmod(0o644)
    cached.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    cached.chmod(0o444)
    (mate / "artifacts/index/index.h5").unlink()
    told = command(mate, "pull", rc=2)
    assert "artifacts/index/index.h5 is damaged in the remote" in told
    command(mate, "pull")
    assert resting(mate)


# ---- absence has one meaning


@pytest.mark.engines
def test_an_empty_folder_of_a_stage_is_not_recorded_as_its_output(mate: Path) -> None:
    whole = (mate / "dvc.lock").read_text()
    for stage in ("hierarchies", "cam"):
        shutil.rmtree(mate / "artifacts" / stage)
        (mate / "artifacts" / stage / "fold0").mkdir(parents=True)
    assert "(unchanged, since not on this machine: hierarchies, cam)" in command(mate, "record")
    assert (mate / "dvc.lock").read_text() == whole
    assert "agree" in command(mate, "audit")
    (mate / "dvc.lock").unlink()
    told = command(mate, "record", rc=2)
    assert "artifacts/cam: not on this machine, and not in dvc.lock; make or pull the stage cam" in told
    assert not (mate / "dvc.lock").exists()


@pytest.mark.engines
def test_a_lock_without_a_checksum_is_named(mate: Path) -> None:
    values = yaml.safe_load((mate / "dvc.lock").read_text())
    del values["stages"]["cam"]["outs"][0]["md5"]
    (mate / "dvc.lock").write_text(yaml.safe_dump(values, sort_keys=False))
    for words in (("audit",), ("push",)):
        assert "artifacts/cam: dvc.lock has no checksum of it" in command(mate, *words, rc=2)


# ---- paths and configurations


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("$NOVELSEG_DATA/VOC", "/data/VOC"),
        ("${NOVELSEG_DATA}/VOC", "/data/VOC"),
        ("$FAST/${FAST}", "/fast//fast"),
        ("$NOVELSEG_DATA_FAST/VOC", "$NOVELSEG_DATA_FAST/VOC"),
        ("~/VOC", "/home/me/VOC"),
        ("a/~/$", "a/~/$"),
    ],
)
def test_paths_are_expanded_as_by_a_shell(path: str, resolved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NOVELSEG_DATA", "/data"), ("FAST", "/fast"), ("HOME", "/home/me")):
        monkeypatch.setenv(name, value)
    assert resolve(path) == resolved
    assert unset_variable(resolve(path)) == ("NOVELSEG_DATA_FAST" if "DATA_FAST" in path else "")


@pytest.mark.engines
def test_moved_weights_make_nothing_stale_and_other_ones_everything_after(mate: Path, tmp_path: Path) -> None:
    name = str(load(mate / "params.yaml").values("encoder")["weights"])
    shutil.copy(mate / name, tmp_path / "weights {a}.safetensors")
    set_values(mate, encoder={"weights": str(tmp_path / "weights {a}.safetensors")})
    assert stale_jobs(mate) == {}
    assert "encoder" in str(changed_for_dvc(mate)["baseline"])
    assert "recorded in dvc.lock" in command(mate, "record")
    assert resting(mate)
    assert "agree" in command(mate, "audit")
    set_values(mate, encoder={"weights": str(tmp_path / "none.safetensors")})
    assert "baseline" in stale_jobs(mate)


@pytest.mark.engines
def test_braces_in_a_path_are_no_wildcards(mate: Path, tmp_path: Path) -> None:
    raw = tmp_path / "a {b} c"
    call(mate, "python", "-m", "stages", "scenes", "--out", str(raw))
    set_values(mate, images={"source": "voc", "root": str(raw)}, plan={"seeds": [0]})
    call(mate, "python", "-m", "snakemake", "images_all")
    assert "images" not in stale_jobs(mate)


def test_snakemakes_own_configuration_is_refused() -> None:
    refuse_config(SimpleNamespace(config={}, configfiles=[]))
    for given in (SimpleNamespace(config={"a": 1}, configfiles=[]), SimpleNamespace(config={}, configfiles=["a"])):
        with pytest.raises(InputError, match=r"values stand in params\.yaml alone"):
            refuse_config(given)


@pytest.mark.parametrize(
    "words", [("--config", "a=1"), ("--configfile", "a.yaml"), ("--configfiles=a",), ("-C", "a=1")]
)
def test_run_refuses_it_before_anything_else(words: tuple[str, ...], tmp_path: Path) -> None:
    assert "values stand in params.yaml alone" in command(tmp_path, "run", *words, rc=2)


@pytest.mark.engines
def test_both_words_are_refused_by_snakemake(mate: Path) -> None:
    printed = call(mate, "python", "-m", "snakemake", "-n", "--config", "tau=3", rc=1)
    assert "values stand in params.yaml alone" in printed


# ---- the world around


def test_a_home_that_cannot_be_written_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        InputError, match=r"Snakemake cannot write its cache in .* \(Not a directory\); set XDG_CACHE_HOME"
    ):
        engine.snakemake(["-n"], captured=True)


def test_outputs_that_are_a_link_out_of_the_project_are_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "artifacts").symlink_to(tmp_path_factory.mktemp("scratch"))
    with pytest.raises(InputError, match=r"artifacts is a link out of the project.* such as artifacts/images, instead"):
        require_folders()
    (folder / "artifacts").unlink()
    (folder / "artifacts").mkdir()
    (folder / "artifacts/images").symlink_to(tmp_path_factory.mktemp("scratch"))
    require_folders()


@pytest.mark.engines
def test_a_copy_without_git_is_one_sentence(mate: Path) -> None:
    shutil.rmtree(mate / ".git")
    for words in (("record",), ("pull",), ("audit",)):
        assert "there is no git repository here, which DVC needs: run `git init`" in command(mate, *words, rc=2)


@pytest.mark.engines
@pytest.mark.parametrize("encoding", ["ascii", "latin1"])
def test_a_terminal_that_is_not_utf8(mate: Path, encoding: str) -> None:
    set_values(mate, report={"bootstrap": 1})
    line = [sys.executable, "-m", "workflow", "table"]
    variables = environment(mate, PYTHONIOENCODING=encoding)
    plain = subprocess.run(line, cwd=mate, env=variables, capture_output=True, check=False)
    assert plain.returncode == 0, plain.stderr
    assert b"Traceback" not in plain.stderr
    # The others with streams as Python opens them there.
    for words, rc in ((("table",), 0), (("--help",), 0), (("table", "--markdown"), 0), (("run",), 2)):
        out, err = io.BytesIO(), io.BytesIO()
        streams = io.TextIOWrapper(out, encoding), io.TextIOWrapper(err, encoding, "backslashreplace")
        with inside(mate), contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            try:
                ended: object = workflow(list(words))
            except SystemExit as end:
                ended = end.code
        for stream in streams:
            stream.flush()
        assert ended == rc
        if words == ("table",):
            assert out.getvalue() == plain.stdout
    assert b"error: params.yaml: report.bootstrap is 1; expected integer" in err.getvalue()


# ---- folders and files of somebody else


def test_a_refused_output_is_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "a/b.h5"
    no = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "a/.b.h5.7.tmp"))
    assert str(writing_refused(no, target)) == (
        f"{tmp_path}/a: cannot be written (Permission denied); ask its owner for permission, or choose another folder"
    )
    no = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))  # mkdir of a parent
    assert str(writing_refused(no, target)).startswith(f"{tmp_path}: cannot be written (Permission denied)")
    h5py = PermissionError(errno.EACCES, f"unable to create file (name = '{tmp_path}/a/.b.h5.7.tmp')")
    assert "cannot be written" in str(writing_refused(h5py, target))
    other = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input.h5")
    assert writing_refused(other, target) is None
    assert str(system_refused(other)).startswith("/elsewhere/input.h5: permission is missing (Permission denied)")
    assert system_refused(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


def test_a_folder_that_may_not_be_written_is_named_before_the_work(
    images_only: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("novelseg.core.files.os.access", lambda *_: False)
    out = images_only.root / "new" / "seed0.tsv"
    words = ("--index", images_only.path("index/index.h5"), "--fold", 0, "--shot", 1, "--seed", 0)
    assert images_only.run("episodes", *words, "--out", out) == 2
    assert f"error: {images_only.root}: cannot be written (Permission denied)" in capsys.readouterr().err
    assert not out.parent.exists()


def test_a_file_in_place_of_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    told = r"a: cannot be written \((File exists|Not a directory)\); check the path"
    with pytest.raises(InputError, match=told), whole_file(tmp_path / "a/b"):
        pass


def test_whoever_may_write_in_the_folder_may_take_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o775)
    with exclusive(tmp_path / "run.lock", "busy"):
        assert (tmp_path / "run.lock").stat().st_mode & 0o777 == 0o664

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "run.lock")

    monkeypatch.setattr("novelseg.core.lock.FileLock.acquire", refuse)
    told = r"run\.lock: cannot be locked \(Permission denied\); ask its owner to run `chmod"
    with pytest.raises(InputError, match=told), exclusive(tmp_path / "run.lock", "busy"):
        pass


@pytest.mark.engines
def test_a_colleagues_file_of_the_future_becomes_a_copy(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.provenance.digests import Digests
    from workflow import tracking

    with inside(mate):
        path, digests = Path("artifacts/regions/0.h5"), Digests()
        content, future = path.read_bytes(), 4_000_000_000
        os.utime(path, (future, future))

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

        monkeypatch.setattr(os, "utime", refuse)
        tracking._fix_time(path, digests)
        assert path.read_bytes() == content
        assert path.stat().st_mtime < future
        monkeypatch.undo()
        os.utime(path, (future, future))
        monkeypatch.setattr(os, "utime", refuse)
        monkeypatch.setattr(shutil, "copyfile", refuse)
        with pytest.raises(SystemExit, match=r"regions/0\.h5 is dated 2096-.*belongs to another user .* run `touch"):
            tracking._fix_time(path, digests)
