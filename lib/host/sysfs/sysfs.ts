/**
 * Sysfs as a seam: the kernel's own tree, or the one that an emulated host serves.
 *
 * Host logic (listing, binding, journal, guards, VF count) is written once, over this interface; so what is tried on the
 * emulated host is what runs on a real one.
 *
 * @module
 */

/**
 * A tree of attributes. Paths are absolute, as on Linux: `/sys/bus/pci/devices/0000:01:00.0/vendor`.
 * Failures are `SyscallError`s with the errno that Linux gives (ENOENT, EBUSY, ERANGE, EACCES, …).
 */
export interface Sysfs extends Disposable {
  /** Text of an attribute, with trailing white space removed. */
  readText(path: string): string;
  /** Bytes of a binary attribute (`config`). */
  readBytes(path: string): Uint8Array<ArrayBuffer>;
  /** One write. */
  writeText(path: string, text: string): void;
  /** Names in a directory, sorted. */
  list(path: string): string[];
  /** Target of a symbolic link, as written in it. */
  readLink(path: string): string;
  /** The symbolic links in a directory, by name in order, with their targets as written; its other entries are left out. */
  links(path: string): Map<string, string>;
  /** Whether the path leads somewhere, links followed. */
  exists(path: string): boolean;
}
