/** One member of an archive. */
export interface ArchiveEntry {
  /** Path without a leading slash. */
  readonly path: string;
  readonly content:
    | { readonly kind: "folder" }
    | { readonly kind: "file"; readonly data: Uint8Array; readonly executable?: boolean }
    | { readonly kind: "link"; readonly target: string }
    | { readonly kind: "character-device"; readonly major: number; readonly minor: number };
}

const FOLDER = 0o040755;
const FILE = 0o100644;
const PROGRAM = 0o100755;
const LINK = 0o120777;
const CHARACTER_DEVICE = 0o020600;

/**
 * Writes a "newc" cpio archive, the format the kernel unpacks as its initramfs.
 *
 * Written here because it is small, because device nodes in it need no privilege when no file system is
 * involved, and because hosts often lack the `cpio` program. Folders above an entry are added as needed.
 */
export function writeNewc(entries: readonly ArchiveEntry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const known = new Set<string>();
  let inode = 1;
  const member = (path: string, mode: number, data: Uint8Array, major = 0, minor = 0): void => {
    const name = new TextEncoder().encode(`${path}\0`);
    const fields = [inode++, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, name.length, 0];
    const header = "070701" + fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    const head = new Uint8Array(align4(header.length + name.length));
    new TextEncoder().encodeInto(header, head);
    head.set(name, header.length);
    parts.push(head, data, new Uint8Array(align4(data.length) - data.length));
  };
  const folder = (path: string): void => {
    if (path === "" || known.has(path)) return;
    folder(parent(path));
    known.add(path);
    member(path, FOLDER, new Uint8Array());
  };
  for (const { path, content } of entries) {
    folder(parent(path));
    if (content.kind === "folder") {
      folder(path);
      continue;
    }
    if (known.has(path)) throw new TypeError(`writeNewc: ${path} is in the archive twice`);
    known.add(path);
    switch (content.kind) {
      case "file":
        member(path, content.executable ? PROGRAM : FILE, content.data);
        break;
      case "link":
        member(path, LINK, new TextEncoder().encode(content.target));
        break;
      case "character-device":
        member(path, CHARACTER_DEVICE, new Uint8Array(), content.major, content.minor);
        break;
    }
  }
  member("TRAILER!!!", 0, new Uint8Array());
  return concatenate(parts);
}

function parent(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

function align4(value: number): number {
  return (value + 3) & ~3;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
