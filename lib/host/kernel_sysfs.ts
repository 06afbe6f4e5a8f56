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

  exists(path: string): boolean {
    return accessible(path);
  }

  [Symbol.dispose](): void {}
}
