/* Bytes: compressed, in base64, and as PNG. */

const through = async (bytes, transform) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());

export const deflate = bytes => through(bytes, new CompressionStream("deflate"));
export const inflate = bytes => through(bytes, new DecompressionStream("deflate"));

/* The content of an array that the server has packed. */
export const unpack = text => inflate(Uint8Array.from(atob(text), char => char.charCodeAt(0)));

const CRC = new Uint32Array(256).map((_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

const chunk = (kind, content) => {
  const bytes = new Uint8Array(12 + content.length), view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  for (let place = 0; place < 4; place++) bytes[4 + place] = kind.charCodeAt(place);
  bytes.set(content, 8);
  let crc = -1;
  for (let place = 4; place < 8 + content.length; place++) crc = CRC[(crc ^ bytes[place]) & 255] ^ (crc >>> 8);
  view.setUint32(8 + content.length, ~crc);
  return bytes;
};

/* A PNG of grey values, of 8 or 16 bits: a mask that holds the numbers of its classes or objects. */
export const png = async (values, width, height) => {
  const head = new Uint8Array(13), view = new DataView(head.buffer), size = values.BYTES_PER_ELEMENT;
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8 * size;
  const stride = width * size + 1, rows = new Uint8Array(stride * height);  // each row begins with its filter, 0
  for (let y = 0; y < height; y++) {
    const row = values.subarray(y * width, (y + 1) * width), start = y * stride + 1;
    if (size === 1) rows.set(row, start);
    else for (let x = 0; x < width; x++) { rows[start + 2 * x] = row[x] >> 8; rows[start + 2 * x + 1] = row[x] & 255; }
  }
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const parts = [signature, chunk("IHDR", head), chunk("IDAT", await deflate(rows)), chunk("IEND", new Uint8Array(0))];
  return new Blob(parts, { type: "image/png" });
};
