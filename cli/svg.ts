/**
 * Pictures as SVG text.
 *
 * @module
 */
import { NewFile, writeAll } from "../ffi/mod.ts";

/** A whole picture on white. Parts that are empty are left out. */
export function svgPicture(width: number, height: number, title: string, parts: readonly string[]): string {
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    svgTitle(title),
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...parts.filter((part) => part !== ""),
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

/** Text that begins at a place, or as `text-anchor` says. */
export function svgText(x: number, y: number, content: string, attributes = ""): string {
  const more = attributes === "" ? "" : ` ${attributes}`;
  return `<text x="${tenths(x)}" y="${tenths(y)}"${more}>${escaped(content)}</text>`;
}

/** What is told of the element that it stands in, when a pointer is on it. */
export function svgTitle(content: string): string {
  return `<title>${escaped(content)}</title>`;
}

/** A coordinate: more than a tenth of a unit is not seen. */
export function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Writes a picture to a file; `-` is standard output. @throws SyscallError */
export function writePicture(path: string, picture: string): void {
  using file = new NewFile(path);
  writeAll(file.fd, new TextEncoder().encode(picture) as Uint8Array<ArrayBuffer>);
  file.keep();
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
