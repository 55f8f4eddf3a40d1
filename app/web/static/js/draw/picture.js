// Pictures of digits: what a picture is, and large ones made smaller before they travel.

const MAX_BYTES = 700_000;
const MAX_SIDE = 1600;
const QUALITY = 0.9;

export const isPicture = (file) => file.type.startsWith("image/") && file.type !== "image/svg+xml";

/** Returns the file, or a smaller JPEG of it if it is large; a file that the browser cannot decode stays as it is. */
export async function prepare(file) {
  if (file.size <= MAX_BYTES) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return file;
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const pencil = canvas.getContext("2d");
  pencil.fillStyle = "#fff"; // transparency is over white, as in the service
  pencil.fillRect(0, 0, canvas.width, canvas.height);
  pencil.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", QUALITY));
}

/** The picture in a paste, null if it holds none. */
export function pasted(event) {
  const item = [...(event.clipboardData?.items ?? [])].find((each) => each.type.startsWith("image/"));
  return item?.getAsFile() ?? null;
}
