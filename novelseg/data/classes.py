"""Names of classes, in label order from 1, and VOC's colour map."""

VOC = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def voc_palette() -> list[int]:
    """Return VOC's colour map as a flat list, in which three bits per channel are interleaved."""
    colours = []
    for label in range(256):
        channels = [sum(((label >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        colours += channels
    return colours


_PALETTE = voc_palette()
VOC_COLOURS = {tuple(_PALETTE[3 * label : 3 * label + 3]): label for label in range(256)}  # colour → number
