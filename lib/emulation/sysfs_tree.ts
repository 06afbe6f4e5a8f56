/**
 * A tree of attributes in memory that answers as sysfs does: directories, attributes whose reads and writes are calls, and
 * symbolic links that are followed.
 *
 * @module
 */
import { errnoNumber, SyscallError } from "../../ffi/mod.ts";

/** Error names that the emulated kernel gives. */
export type SysfsErrno =
  | "EACCES"
  | "EBUSY"
  | "EEXIST"
  | "EINVAL"
  | "EIO"
  | "EISDIR"
  | "ELOOP"
  | "ENODEV"
  | "ENOENT"
  | "ENOTDIR"
  | "ENOTTY"
  | "ERANGE";

/** The `SyscallError` that a call on an attribute ends with; `why` becomes its hint. */
export function sysfsError(errno: SysfsErrno, call: string, path: string, why = ""): SyscallError {
  return new SyscallError(call, path, errnoNumber[errno]!, { hint: why || undefined });
}

/** What an attribute does. A missing `read` or `write` is a file without that permission: EACCES. */
export interface Attribute {
  /** Content: text (with its newline, as the kernel writes it) or bytes. */
  readonly read?: () => string | Uint8Array<ArrayBuffer>;
  /** One write of this text. Fails with a `SyscallError` that `fail` makes. */
  readonly write?: (text: string, fail: Fail) => void;
}

/** Throws the attribute's error. */
export type Fail = (errno: SysfsErrno, why?: string) => never;

type Node =
  | { readonly type: "directory"; readonly entries: Map<string, Node> }
  | { readonly type: "attribute"; readonly attribute: Attribute }
  | { readonly type: "link"; readonly target: string };

const MAX_LINKS = 40;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** The tree. Paths are absolute; `.` and `..` are understood, `..` as the kernel does: after following links. */
export class SysfsTree {
  readonly #root: Node & { type: "directory" } = directory();

  /** Adds an attribute, with the directories above it. Replaces what was there. */
  attribute(path: string, attribute: Attribute): void {
    this.#place(path, { type: "attribute", attribute });
  }

  /** Adds an attribute whose content never changes. */
  constant(path: string, text: string): void {
    this.attribute(path, { read: () => text });
  }

  /** Adds a link; `target` as it shall read, relative to the directory that holds it. */
  link(path: string, target: string): void {
    this.#place(path, { type: "link", target });
  }

  /** Adds an empty directory, if it is not there. */
  directory(path: string): void {
    let at = this.#root;
    for (const name of split(path)) {
      const next: Node = at.entries.get(name) ?? directory();
      at.entries.set(name, next);
      if (next.type !== "directory") throw sysfsError("ENOTDIR", "mkdir", path);
      at = next;
    }
  }

  /** Takes a node out with all below it; one that is not there is fine. Links on the way are not followed. */
  remove(path: string): void {
    const names = split(path);
    const last = names.pop();
    let at = this.#root;
    for (const name of names) {
      const next = at.entries.get(name);
      if (next?.type !== "directory") return;
      at = next;
    }
    if (last !== undefined) at.entries.delete(last);
  }

  /** Content of an attribute as text, as the kernel gives it. @throws SyscallError */
  readText(path: string): string {
    const content = this.#read(path);
    return typeof content === "string" ? content : decoder.decode(content);
  }

  /** Content of an attribute as bytes. @throws SyscallError */
  readBytes(path: string): Uint8Array<ArrayBuffer> {
    const content = this.#read(path);
    return typeof content === "string" ? encoder.encode(content) as Uint8Array<ArrayBuffer> : content;
  }

  /** One write. @throws SyscallError */
  writeText(path: string, text: string): void {
    const node = this.#find(path, true, "open");
    if (node.type === "directory") throw sysfsError("EISDIR", "open", path);
    if (node.type !== "attribute" || node.attribute.write === undefined) {
      throw sysfsError("EACCES", "open", path);
    }
    node.attribute.write(text, (errno, why) => {
      throw sysfsError(errno, "write", path, why);
    });
  }

  /** Names in a directory, sorted. @throws SyscallError */
  list(path: string): string[] {
    return [...this.#entries(path).keys()].sort();
  }

  /** Target of a link, as written in it. @throws SyscallError (EINVAL when it is no link) */
  readLink(path: string): string {
    const node = this.#find(path, false, "readlink");
    if (node.type !== "link") throw sysfsError("EINVAL", "readlink", path);
    return node.target;
  }

  /** Links in a directory with their targets, sorted by name. @throws SyscallError */
  links(path: string): [string, string][] {
    const found: [string, string][] = [];
    for (const [name, entry] of this.#entries(path)) {
      if (entry.type === "link") found.push([name, entry.target]);
    }
    return found.sort(([a], [b]) => a < b ? -1 : 1);
  }

  /** True when the path leads somewhere, links followed. */
  exists(path: string): boolean {
    try {
      this.#find(path, true, "access");
      return true;
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
  }

  #entries(path: string): Map<string, Node> {
    const node = this.#find(path, true, "open");
    if (node.type !== "directory") throw sysfsError("ENOTDIR", "open", path);
    return node.entries;
  }

  #read(path: string): string | Uint8Array<ArrayBuffer> {
    const node = this.#find(path, true, "open");
    if (node.type === "directory") throw sysfsError("EISDIR", "read", path);
    if (node.type !== "attribute" || node.attribute.read === undefined) {
      throw sysfsError("EACCES", "open", path);
    }
    return node.attribute.read();
  }

  #place(path: string, node: Node): void {
    const names = split(path);
    const last = names.pop();
    if (last === undefined) throw sysfsError("EEXIST", "create", path);
    const parent = `/${names.join("/")}`;
    this.directory(parent);
    const at = this.#find(parent, false, "create");
    if (at.type === "directory") at.entries.set(last, node);
  }

  #find(path: string, followLast: boolean, call: string): Node {
    if (!path.startsWith("/")) throw sysfsError("ENOENT", call, path, "paths are absolute");
    let rest = split(path);
    let trail: (Node & { type: "directory" })[] = [this.#root];
    let node: Node = this.#root;
    let links = 0;
    while (rest.length > 0) {
      const name = rest[0]!;
      rest = rest.slice(1);
      if (node.type !== "directory") throw sysfsError("ENOTDIR", call, path);
      if (name === ".") continue;
      if (name === "..") {
        if (trail.length > 1) trail.pop();
        node = trail[trail.length - 1]!;
        continue;
      }
      const next: Node | undefined = node.entries.get(name);
      if (next === undefined) throw sysfsError("ENOENT", call, path);
      if (next.type === "link" && (followLast || rest.length > 0)) {
        if (++links > MAX_LINKS) throw sysfsError("ELOOP", call, path);
        if (next.target.startsWith("/")) trail = [this.#root];
        node = trail[trail.length - 1]!;
        rest = [...split(next.target), ...rest];
        continue;
      }
      node = next;
      if (node.type === "directory") trail.push(node);
    }
    return node;
  }
}

function directory(): Node & { type: "directory" } {
  return { type: "directory", entries: new Map() };
}

function split(path: string): string[] {
  return path.split("/").filter((name) => name !== "");
}
