/**
 * The kernel's own sysfs, read and written through the C library.
 *
 * @module
 */
import {
  accessible,
  readDirectory,
  readFile,
  readLink as readLinkTarget,
  readText,
  writeAttribute,
} from "../../ffi/mod.ts";
import type { Sysfs } from "./sysfs.ts";

/** `Sysfs` over the tree that is mounted at `/sys`. It holds nothing open. Every failure is a `SyscallError`. */
export class KernelSysfs implements Sysfs {
  /** See `Sysfs`. */
  readText(path: string): string {
    return readText(path).trimEnd();
  }

  /** See `Sysfs`. */
  readBytes(path: string): Uint8Array<ArrayBuffer> {
    return readFile(path);
  }

  /** See `Sysfs`. */
  writeText(path: string, text: string): void {
    writeAttribute(path, text);
  }

  /** See `Sysfs`. */
  list(path: string): string[] {
    return readDirectory(path).map((entry) => entry.name);
  }

  /** See `Sysfs`. */
  readLink(path: string): string {
    return readLinkTarget(path);
  }

  /** See `Sysfs`. */
  exists(path: string): boolean {
    return accessible(path);
  }

  /** Nothing is held, so nothing is let go. */
  [Symbol.dispose](): void {}
}
