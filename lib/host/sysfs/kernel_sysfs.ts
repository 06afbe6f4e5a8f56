/**
 * The kernel's own sysfs, read and written through the C library.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import {
  accessible,
  isErrno,
  readDirectory,
  readFile,
  readLink as readLinkTarget,
  readText,
  writeAttribute,
} from "../../../ffi/mod.ts";
import type { Sysfs } from "./sysfs.ts";

/** Type of a symbolic link in `struct dirent`. */
const DT_LINK = 10;

/** `Sysfs` over the tree that is mounted at `/sys`. It holds nothing open. Every failure is a `SyscallError`. */
export class KernelSysfs implements Sysfs {
  static {
    typedErrors(this);
  }

  readText(path: string): string {
    return readText(path).trimEnd();
  }

  readBytes(path: string): Uint8Array<ArrayBuffer> {
    return readFile(path);
  }

  writeText(path: string, text: string): void {
    writeAttribute(path, text);
  }

  list(path: string): string[] {
    return readDirectory(path).map((entry) => entry.name);
  }

  readLink(path: string): string {
    return readLinkTarget(path);
  }

  /** See `Sysfs`. One that goes while it is read is left out. */
  links(path: string): Map<string, string> {
    const found = new Map<string, string>();
    for (const { name, type } of readDirectory(path)) {
      if (type !== DT_LINK) continue;
      try {
        found.set(name, readLinkTarget(`${path}/${name}`));
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error;
      }
    }
    return found;
  }

  exists(path: string): boolean {
    return accessible(path);
  }

  /** Nothing is held, so nothing is let go. */
  [Symbol.dispose](): void {}
}
