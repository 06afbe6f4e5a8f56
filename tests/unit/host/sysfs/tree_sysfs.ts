/** A sysfs to look at, made from lines as people write a tree down: `path = text` and `path -> target`; `\0` and `\n` in a text are such characters. */
import { SysfsTree } from "../../../../lib/emulation/sysfs_tree.ts";
import type { Sysfs } from "../../../../lib/host/sysfs/sysfs.ts";

export class TreeSysfs implements Sysfs {
  readonly #tree = new SysfsTree();

  constructor(...lines: readonly string[]) {
    for (const line of lines) {
      const [, path, sign, rest] = /^(\S+)(?: (=|->) ?(.*))?$/.exec(line)!;
      if (sign === "->") this.#tree.link(path!, rest!);
      else if (sign === "=") this.#put(path!, rest!.replaceAll("\\0", "\0").replaceAll("\\n", "\n"));
      else this.#tree.directory(path!);
    }
  }

  #put(path: string, text: string): void {
    const hex = /^hex:((?: [0-9a-f]{2})+)$/.exec(text)?.[1];
    if (hex === undefined) return this.#tree.constant(path, text.endsWith("\0") ? text : `${text}\n`);
    const bytes = Uint8Array.from(hex.trim().split(" "), (one) => parseInt(one, 16));
    this.#tree.attribute(path, { read: () => bytes });
  }

  readText(path: string): string {
    return this.#tree.readText(path).trimEnd();
  }
  readBytes(path: string): Uint8Array<ArrayBuffer> {
    return this.#tree.readBytes(path);
  }
  writeText(path: string, text: string): void {
    this.#tree.writeText(path, text);
  }
  list(path: string): string[] {
    return this.#tree.list(path);
  }
  readLink(path: string): string {
    return this.#tree.readLink(path);
  }
  links(path: string): Map<string, string> {
    return new Map(this.#tree.links(path));
  }
  exists(path: string): boolean {
    return this.#tree.exists(path);
  }
  [Symbol.dispose](): void {}
}
