/**
 * A function whose registers a command looks at.
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { ConfigSpace } from "../lib/pci/mod.ts";
import type { RegisterTable } from "../lib/registers/declaration.ts";
import { parseRegisters, Registers, type RegisterSpace } from "../lib/registers/mod.ts";
import { Bar, ConfigAccess, type VfioDevice } from "../lib/vfio/mod.ts";
import { knownRegisters, mmioRegisters, type RegisterSet } from "../lib/virtio/function_registers.ts";
import { driverSets } from "./driver_tables.ts";
import { ofFile } from "./json_file.ts";
import { openOptions } from "./opening.ts";
import type { Of } from "./parser.ts";
import { type MeantRegister, meantRegister } from "./register_place.ts";
import { requireThere } from "./register_value.ts";
import { withIds } from "./vf_config.ts";

/** What it takes of a command line. */
export type Reading = Pick<
  Of<"peek">,
  "function" | "table" | "bar" | "path" | "vfToken" | "unsafe" | "profile"
>;

/** What the window of a virtio-mmio device has. */
const FORMS = { "spec": "modern", "mmio-v3": "v3", "mmio-msi-v2": "msi-v2" } as const;

/** By the device tree, or by ACPI. */
function isVirtioMmio(about: FunctionInfo): boolean {
  return about.bus === "platform" &&
    (about.compatible.includes("virtio,mmio") || about.modalias?.includes("LNRO0005") === true);
}

/** A function whose registers are looked at. It is opened when the first register in a BAR is. */
export class LookedFunction implements Disposable {
  readonly about: FunctionInfo;
  readonly sets: readonly RegisterSet[];
  readonly #host: Host;
  readonly #options: Reading;
  readonly #config: Uint8Array<ArrayBuffer>;
  /** Bytes of each BAR of a PCI function, 0 where there is none. */
  readonly barSizes: readonly number[];
  readonly #bars = new Map<number, Bar>();
  readonly #stack = new DisposableStack();
  #device: VfioDevice | undefined;

  constructor(host: Host, options: Reading) {
    this.#host = host;
    this.#options = options;
    this.about = host.describe(options.function);
    const { address, bus } = this.about;
    const pci = bus === "pci";
    this.#config = pci ? host.readConfig(address) : new Uint8Array(0);
    this.barSizes = pci ? host.barSizes(address) : [];
    const given: RegisterSet[] = options.table === undefined ? [] : [{
      name: "table",
      region: options.bar,
      offset: 0,
      lengthBytes: pci ? this.barSizes[options.bar] ?? 0 : Infinity,
      table: ofFile(options.table, () => parseRegisters(readText(options.table!))),
    }];
    const { about } = this;
    this.sets = about.bus === "pci"
      ? [
        ...given,
        ...knownRegisters(address, withIds(this.#config, about), this.barSizes),
        ...driverSets(about, this.barSizes[0]),
      ]
      : isVirtioMmio(about)
      ? [...given, mmioRegisters(FORMS[options.profile ?? "spec"])]
      : given;
  }

  get opened(): boolean {
    return this.#device !== undefined;
  }

  /** The register that is meant. @throws UsageError where there is none */
  meant(text: string): MeantRegister {
    const meant = meantRegister(text, this.sets);
    const { region } = meant;
    const size = region === "config"
      ? this.#config.length
      : this.about.bus === "pci"
      ? this.barSizes[region] ?? 0
      : Infinity;
    requireThere(meant, this.about.address, size);
    return meant;
  }

  /** @throws what opening throws, such as UsageError for a function that is not on VFIO */
  open(): VfioDevice {
    if (this.#device !== undefined) return this.#device;
    return this.#device = this.#stack.use(this.#host.open(this.about.address, openOptions(this.#options)));
  }

  /** Configuration space is read as the host shows it, which needs no driver; all else through VFIO. @param written also configuration space is then */
  space(region: "config" | number, written = false): RegisterSpace {
    if (region === "config") {
      if (written || this.#device !== undefined) return new ConfigAccess(this.open());
      const config = new ConfigSpace(this.#config);
      return {
        read: (offset, width) => config.read(offset, width),
        write: () => {
          throw new UsageError("configuration space is open for reading only");
        },
      };
    }
    let bar = this.#bars.get(region);
    if (bar === undefined) {
      const device = this.open();
      this.#decodeMemory(device);
      this.#bars.set(region, bar = this.#stack.use(new Bar(device, region)));
    }
    return bar;
  }

  /** A BAR answers while the function decodes memory; what was off before is off again afterwards. */
  #decodeMemory(device: VfioDevice): void {
    if (this.about.bus !== "pci" || this.#bars.size > 0) return;
    const config = new ConfigAccess(device);
    const before = config.setCommand({ memory: true });
    if ((before & 2) === 0) this.#stack.defer(() => void config.setCommand({ memory: false }));
  }

  registers(set: RegisterSet): Registers<RegisterTable> {
    return new Registers(set.table, this.space(set.region), set);
  }

  /** Reads one: with its set's declaration where it has one. */
  read({ known, region, offset, width }: MeantRegister): number | bigint {
    if (known !== undefined) return this.registers(known.set).get(known.register, known.index);
    const space = this.space(region);
    if (width !== 8) return space.read(offset, width);
    if (space.read64 !== undefined) return space.read64(offset);
    return BigInt(space.read(offset, 4)) | BigInt(space.read(offset + 4, 4)) << 32n;
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
