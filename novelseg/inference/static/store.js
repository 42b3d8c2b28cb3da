/* The browser's own storage, so that nothing is lost on reload. */

let database = null;

const done = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/* Open the storage; false if this browser has none. */
export const open = async () => {
  try {
    const request = indexedDB.open("novelseg", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("pictures", { keyPath: "id" });
      request.result.createObjectStore("settings");
    };
    database = await done(request);
    return true;
  } catch {
    return false;
  }
};

const within = (names, mode, work) => database && new Promise((resolve, reject) => {
  const change = database.transaction(names, mode);
  const answer = work(change);
  change.oncomplete = () => resolve(answer?.result);
  change.onabort = change.onerror = () => reject(change.error);
});

export const putPicture = record => within(["pictures"], "readwrite", change => change.objectStore("pictures").put(record));
export const removePicture = id => within(["pictures"], "readwrite", change => change.objectStore("pictures").delete(id));
export const pictures = async () => await within(["pictures"], "readonly", change => change.objectStore("pictures").getAll()) ?? [];
export const putSettings = value => within(["settings"], "readwrite", change => change.objectStore("settings").put(value, "all"));
export const settings = () => within(["settings"], "readonly", change => change.objectStore("settings").get("all"));
export const clear = () => within(["pictures", "settings"], "readwrite", change => {
  change.objectStore("pictures").clear();
  change.objectStore("settings").clear();
});
