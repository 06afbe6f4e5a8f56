/**
 * Uses of disks on a Linux host: mounts, swap, members of file systems over several disks, and whatever else the kernel keeps a disk for.
 *
 * @module
 */
import { baseName, type FunctionAttributes } from "../sysfs/attributes.ts";

/** Where the facts come from that are not in sysfs. */
export interface DiskSources {
  /** Text of a file of `/proc`; empty when it is not there. */
  readonly read: (path: string) => string;
  /** Whether the kernel, or a program that asked for it, has a block device to itself. */
  readonly claimed: (name: string) => boolean;
}

/** File systems over several devices that list them in sysfs: where, and where in an entry the device is linked. */
const MEMBER_LISTS: readonly { readonly type: string; devices(attributes: FunctionAttributes): Members[] }[] =
  [
    {
      type: "btrfs",
      // `/sys/fs/btrfs/UUID/devices/sdb`: of mounted ones only. `features` has no devices.
      devices: (attributes) =>
        attributes.optionalList("/sys/fs/btrfs").map((id) => ({
          id: attributes.optional(`/sys/fs/btrfs/${id}/label`) || id,
          names: attributes.optionalList(`/sys/fs/btrfs/${id}/devices`),
        })),
    },
    {
      type: "bcachefs",
      // `/sys/fs/bcachefs/UUID/dev-0/block`
      devices: (attributes) =>
        attributes.optionalList("/sys/fs/bcachefs").map((id) => ({
          id,
          names: attributes.optionalList(`/sys/fs/bcachefs/${id}`)
            .map((entry) => attributes.linkName(`/sys/fs/bcachefs/${id}/${entry}/block`))
            .filter((name) => name !== undefined),
        })),
    },
  ];

/** A mounted file system and its devices. */
interface Members {
  readonly id: string;
  readonly names: readonly string[];
}

/** Options of a mount that name further devices: of xfs, and the journal of reiserfs and jfs. */
const DEVICE_OPTION = /(?:^|,)(?:logdev|rtdev|jdev)=([^,]+)/g;

/** Looks at disks through sysfs and `sources`. */
export class DiskUsage {
  readonly #attributes: FunctionAttributes;
  readonly #sources: DiskSources;

  /** Reads nothing yet. */
  constructor(attributes: FunctionAttributes, sources: DiskSources) {
    this.#attributes = attributes;
    this.#sources = sources;
  }

  /** How the host uses a disk, its partitions, and what is stacked on them; empty when it does not. */
  uses(name: string): string[] {
    const layers = this.#layersOn(name);
    const uses: string[] = [];
    const told = new Set<string>();
    for (const layer of layers) {
      const where = layer === name ? "" : `${this.#label(layer)} on it `;
      const found = [
        ...this.#mountPoints(layer).map((point) => `is mounted on ${point}`),
        ...(this.#isSwap(layer) ? ["is swapped on"] : []),
        ...this.#memberOf(layer),
      ];
      if (found.length > 0) told.add(layer);
      uses.push(...found.map((use) => where + use));
    }
    // What is mounted or swapped on is claimed, too, and so is all that it stands on. Whoever else claims a disk says so nowhere: ZFS, a member of an
    // array, an exported target, a program that writes an image.
    if (uses.length === 0) {
      const claimed = layers.findLast((layer) => this.#sources.claimed(layer));
      if (claimed !== undefined) {
        uses.push(this.#claim(claimed === name ? "" : `${this.#label(claimed)} on it `, claimed));
      }
    }
    return uses;
  }

  #claim(where: string, name: string): string {
    const holders = this.#attributes.optionalList(`/sys/class/block/${name}/holders`);
    return holders.length > 0
      ? `${where}is held by ${holders.map((holder) => this.#label(holder)).join(", ")}`
      : `${where}is claimed by the kernel or by a program (opening it for oneself alone fails with EBUSY)`;
  }

  /** A disk, its partitions, and what device mapper, md, bcache or a loop device stack on them. */
  #layersOn(name: string): string[] {
    const layers: string[] = [];
    const loops = this.#attributes.optionalList("/sys/class/block").filter((one) => one.startsWith("loop"));
    const visit = (layer: string): void => {
      if (layers.includes(layer)) return;
      layers.push(layer);
      const directory = `/sys/class/block/${layer}`;
      for (const entry of this.#attributes.optionalList(directory)) {
        if (this.#attributes.sysfs.exists(`${directory}/${entry}/partition`)) visit(entry);
      }
      for (const holder of this.#attributes.optionalList(`${directory}/holders`)) visit(holder);
      // A loop device claims nothing below it.
      for (const loop of loops) {
        if (
          this.#isNode(this.#attributes.optional(`/sys/class/block/${loop}/loop/backing_file`) ?? "", layer)
        ) {
          visit(loop);
        }
      }
    };
    visit(name);
    return layers;
  }

  #label(name: string): string {
    const mapped = this.#mapperName(name);
    return mapped === undefined ? name : `${name} (${mapped})`;
  }

  #mapperName(name: string): string | undefined {
    return this.#attributes.optional(`/sys/class/block/${name}/dm/name`);
  }

  /** `/proc/self/mountinfo`: id, parent, major:minor, root, mount point, options, optional fields, `-`, type, source, options. */
  #mountPoints(name: string): string[] {
    const number = this.#attributes.optional(`/sys/class/block/${name}/dev`);
    const points = new Set<string>();
    for (const line of this.#sources.read("/proc/self/mountinfo").split("\n")) {
      const [before = "", after = ""] = line.split(" - ");
      const fields = before.split(" ");
      const [, source = "", options = ""] = after.split(" ");
      // btrfs and others mount under a number of their own, so the source counts too. bcachefs names all its devices there.
      const nodes = [
        ...unescape(source).split(":"),
        ...[...options.matchAll(DEVICE_OPTION)].map(([, node]) => unescape(node!)),
      ];
      if (fields[2] === number || nodes.some((node) => this.#isNode(node, name))) {
        points.add(unescape(fields[4] ?? ""));
      }
    }
    return [...points];
  }

  #isSwap(name: string): boolean {
    return this.#sources.read("/proc/swaps").split("\n").slice(1).some((line) =>
      this.#isNode(unescape(line.split(/\s/)[0] ?? ""), name)
    );
  }

  /** The mounted file systems over several devices of which it is one, where the mount names another. */
  #memberOf(name: string): string[] {
    return MEMBER_LISTS.flatMap(({ type, devices }) =>
      devices(this.#attributes).filter(({ names }) => names.includes(name)).flatMap(({ id, names }) => {
        if (this.#mountPoints(name).length > 0) return [];
        const points = new Set(names.flatMap((other) => this.#mountPoints(other)));
        const where = points.size === 0
          ? ", which is mounted"
          : `, which is mounted on ${[...points].join(" and ")}`;
        return [`belongs to the ${type} ${id}${where}`];
      })
    );
  }

  /** Whether a path of `/dev` names the block device. */
  #isNode(path: string, name: string): boolean {
    if (!path.startsWith("/dev/")) return false;
    // In sysfs a slash in a device's name is written as an exclamation mark.
    if (path.slice("/dev/".length).replaceAll("/", "!") === name) return true;
    return path.startsWith("/dev/mapper/") && baseName(path) === this.#mapperName(name);
  }
}

/** `\040` and the like in tables of `/proc`. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
