/**
 * Every register of a virtio-mmio window, read and explained, without driving the device (virtio 1.2 §4.2; reference 7).
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { NotFoundError, UnsupportedError } from "../errors/mod.ts";
import { decodeRegister, type RegisterDeclaration, type RegisterTable } from "../registers/declaration.ts";
import { Registers, type RegisterSpace } from "../registers/registers.ts";
import { FIELD_BYTES } from "../wire/mod.ts";
import { configFieldLack, deviceConfigBytes, deviceType, deviceTypeName } from "./spec/device_types.ts";
import { DRAFT_FEATURE, featureName, featureNames, type Profile } from "./spec/features.ts";
import { LEGACY_RING_ALIGN } from "./spec/legacy.ts";
import {
  MMIO_CONFIG_OFFSET,
  MMIO_LEGACY_CFG,
  MMIO_MAGIC,
  MMIO_MODERN_CFG,
  MMIO_MSI_V2_CFG,
  MMIO_NO_SHARED_MEMORY,
  MMIO_TABLES,
  MMIO_V3_CFG,
  type MmioForm,
  MSI_V2_STATE_LINUX,
} from "./spec/mmio.ts";
import { ISR } from "./spec/pci.ts";
import { describeStatus } from "./spec/status.ts";
import { legacyConfigBytes } from "./transport/legacy_config.ts";
import { quietly } from "./transport/letting_go.ts";
import { notifyPlace } from "./transport/mmio/notify.ts";
import { identifyMmio, requireWindow } from "./transport/mmio/open.ts";
import { type MmioOptions, tracedWindow } from "./transport/mmio/transport.ts";
import type { MmioWindow } from "./transport/mmio/window.ts";

/** A register, a doorbell, or a field of the config space. */
export interface MmioRegister {
  /** Bytes from the start of the window. */
  readonly offset: number;
  /** Bytes. */
  readonly width: number;
  /** As the standard names it; `config.` and the field's name in the config space. */
  readonly name: string;
  /** What was selected when it was read, such as `QueueSel 1`; null for a register that stands once. */
  readonly select: string | null;
  /** Null: not read, which `meaning` explains. */
  readonly value: bigint | null;
  /** In words; empty for a plain number. */
  readonly meaning: string;
}

/** A window, read through. */
export interface MmioFacts {
  /** Name of the device. */
  readonly device: string;
  /** What the registers were read by. */
  readonly profile: Profile;
  /** Form of the registers; null where the device cannot be driven by this profile. */
  readonly form: MmioForm | null;
  /** Version. */
  readonly version: number;
  /** DeviceID: 0 is a placeholder. */
  readonly deviceId: number;
  /** In words. */
  readonly deviceType: string;
  /** Why the device cannot be driven, when it cannot: then only what all forms have is read, and nothing is selected. */
  readonly lack?: string;
  /** By offset; then each queue, each region of shared memory, and the config space. */
  readonly registers: readonly MmioRegister[];
  /** Selectors that were written. They cannot be read: each was put to 0, which it is after a reset. */
  readonly written: readonly string[];
}

/** As many as a transport looks for. */
const QUEUES_LOOKED_FOR = 1024;
/** SHMSel is an id of 8 bits. */
const REGIONS = 256;
/** Words that are shown of the config space of a device type that is not known. */
const UNKNOWN_CONFIG_BYTES = 256;
/** Readings of a config space whose generation changes meanwhile. */
const ATTEMPTS = 4;
/** Read once for each queue, or each region. */
const OF_QUEUE = new Set(["queue_size_max", "queue_ready", "queue_pfn", "queue_reset"]);
const OF_REGION = new Set(["shm_length", "shm_base"]);

/**
 * Reads everything, and writes nothing but selectors, each of which is 0 afterwards. For a device that nobody drives: its driver selects, too.
 * @param window stays the caller's
 * @throws UnsupportedError (no virtio-mmio device), UsageError (a profile that is not MMIO's, a window that is too small), and what the window throws
 */
export function inspectMmio(window: MmioWindow, options: MmioOptions = {}): MmioFacts {
  return typedCall("inspectMmio", [window, options], () => {
    requireWindow(window, "inspectMmio");
    requireType(options, "object", "inspectMmio: options");
    return readWindow(window, options);
  });
}

function readWindow(window: MmioWindow, options: MmioOptions): MmioFacts {
  const { profile = "spec", trace, msiStateBits = "spec" } = options;
  const chosen: MmioOptions = { profile, msiStateBits, ...(trace === undefined ? {} : { trace }) };
  let form: MmioForm | null = null;
  let lack: string | undefined;
  try {
    ({ form } = identifyMmio(window, chosen));
  } catch (error) {
    if (!(error instanceof UnsupportedError || error instanceof NotFoundError)) throw error;
    lack = error.hint === "" ? error.message : `${error.message} (${error.hint})`;
  }
  const table = form === null ? MMIO_MODERN_CFG : MMIO_TABLES[form];
  const space = tracedWindow(window, table, chosen);
  const registers = new Registers(MMIO_MODERN_CFG, space);
  const magic = registers.read("magic_value");
  // What is no such device at all has no registers to show.
  if (magic !== MMIO_MAGIC) throw new UnsupportedError(lack ?? `${window.name} is no virtio-mmio device`);
  const version = registers.read("version");
  const deviceId = registers.read("device_id");
  const reader = new WindowReader(window, space, { form, table, deviceId, options: chosen });
  try {
    if (form === null) reader.readCommon();
    else reader.readAll();
  } catch (error) {
    quietly(() => reader.putBack());
    throw error;
  }
  return {
    device: window.name,
    profile,
    form,
    version,
    deviceId,
    deviceType: deviceId === 0 ? "placeholder" : deviceTypeName(deviceId),
    ...(lack === undefined ? {} : { lack }),
    registers: reader.rows,
    written: reader.putBack(),
  };
}

interface Reading {
  readonly form: MmioForm | null;
  readonly table: RegisterTable;
  readonly deviceId: number;
  readonly options: MmioOptions;
}

class WindowReader {
  readonly rows: MmioRegister[] = [];
  readonly #window: MmioWindow;
  readonly #space: RegisterSpace;
  readonly #reading: Reading;
  readonly #registers: Registers<RegisterTable>;
  readonly #written = new Set<string>();
  #features = 0n;

  constructor(window: MmioWindow, space: RegisterSpace, reading: Reading) {
    this.#window = window;
    this.#space = space;
    this.#reading = reading;
    this.#registers = new Registers(reading.table, space);
  }

  /** What can be read of all forms, as it stands. */
  readCommon(): void {
    for (const [name, declared] of Object.entries(MMIO_MODERN_CFG)) {
      if (!(name in MMIO_LEGACY_CFG) || declared.access === "W") continue;
      const value = BigInt(this.#registers.read(name));
      const selects = name === "device_features" || OF_QUEUE.has(name);
      this.#add(name, null, value, selects ? "of whatever is selected" : this.#meaning(name, value));
    }
  }

  readAll(): void {
    const { form, table, deviceId, options: { profile } } = this.#reading;
    const words = (form === "legacy" ? [0] : [0, 1]).map((word) => {
      this.#select("device_features_select", word);
      const value = BigInt(this.#registers.read("device_features"));
      this.#features |= value << BigInt(32 * word);
      return value;
    });
    const msi = this.#msiEnabled();
    for (
      const [name, declared] of Object.entries(table).sort(([, one], [, other]) => one.offset - other.offset)
    ) {
      if (OF_REGION.has(name) || OF_QUEUE.has(name) && this.#offered(declared)) continue;
      if (name === "device_features") {
        words.forEach((value, word) => {
          const names = featureNames(value << BigInt(32 * word), deviceId, profile);
          this.#add(name, `${titleOf(table, "device_features_select")} ${word}`, value, names.join(" "));
        });
      } else if (!this.#offered(declared)) {
        const bit = featureName(declared.feature!, deviceId, profile);
        this.#add(name, null, null, `not there: ${bit} is not offered`);
      } else if (declared.access === "W" || (name === "queue_notify" && !this.#drafted)) {
        this.#add(name, null, null, "write-only");
      } else if (name === "interrupt_status" && msi) {
        this.#add(name, null, null, "not read while MSI is enabled (N-7.2)");
      } else if (name !== "config_generation") {
        const value = BigInt(this.#registers.read(name));
        this.#add(name, null, value, this.#meaning(name, value));
      }
    }
    this.#readQueues();
    if (form !== "legacy") this.#readRegions();
    this.#readConfig();
  }

  /** Selectors that were written, which are 0 from now on. */
  putBack(): string[] {
    const { table } = this.#reading;
    return [...this.#written].map((name) => {
      this.#registers.write(name, 0);
      return titleOf(table, name);
    });
  }

  #readQueues(): void {
    const { table, form } = this.#reading;
    const names = Object.keys(table).filter((name) => OF_QUEUE.has(name) && this.#offered(table[name]!));
    for (let queue = 0; queue < QUEUES_LOOKED_FOR; queue++) {
      this.#select("queue_select", queue);
      if (this.#registers.read("queue_size_max") === 0) break;
      const select = `${titleOf(table, "queue_select")} ${queue}`;
      for (const name of names) {
        const value = BigInt(this.#registers.read(name));
        this.#add(name, select, value, this.#meaning(name, value));
      }
      if (form !== "legacy" && this.#drafted) this.#addDoorbell(queue, select);
    }
  }

  /** Where a draft says that a queue is notified (N-7.6, N-7.7). */
  #addDoorbell(queue: number, select: string): void {
    const { table } = this.#reading;
    const config = new Registers(MMIO_V3_CFG, this.#space).fields("queue_notify");
    const limits = {
      name: this.#window.name,
      sizeBytes: this.#window.sizeBytes,
      table,
      configSizeBytes: this.#configBytes,
    };
    try {
      const { offset, width } = notifyPlace(config, queue, false, limits);
      this.rows.push({ offset, width, name: "doorbell", select, value: null, meaning: "write-only" });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const offset = config.base + queue * config.multiplier;
      this.rows.push({ offset, width: 2, name: "doorbell", select, value: null, meaning: error.message });
    }
  }

  #readRegions(): void {
    const { table } = this.#reading;
    for (let id = 0; id < REGIONS; id++) {
      this.#select("shm_select", id);
      const length = this.#registers.read64("shm_length");
      if (length === MMIO_NO_SHARED_MEMORY || length === 0n) continue;
      const select = `${titleOf(table, "shm_select")} ${id}`;
      this.#add("shm_length", select, length, `${length} bytes`);
      this.#add("shm_base", select, this.#registers.read64("shm_base"), "address on the device's bus");
    }
  }

  #readConfig(): void {
    const { table } = this.#reading;
    if (!("config_generation" in table)) return void this.rows.push(...this.#configRows());
    for (let attempt = 1;; attempt++) {
      const generation = this.#registers.read("config_generation");
      const rows = this.#configRows();
      const settled = this.#registers.read("config_generation") === generation;
      if (!settled && attempt < ATTEMPTS) continue;
      const meaning = settled ? "" : "changed while the config space was read";
      this.#add("config_generation", null, BigInt(generation), meaning);
      this.rows.push(...rows);
      return;
    }
  }

  /** Field by field, as the device type and its features have them, and as far as the window goes. */
  #configRows(): MmioRegister[] {
    const { deviceId } = this.#reading;
    const end = this.#configBytes;
    const { config, arrays = [] } = deviceType(deviceId) ?? {};
    if (config === undefined) {
      return Array.from({ length: Math.floor(end / 4) }, (_, i) => this.#field(`${4 * i}`, 4 * i, 4, 4));
    }
    return Object.entries(config)
      .filter(([, { offset, type }]) => offset + FIELD_BYTES[type] <= end)
      .filter(([, { offset }]) => !arrays.some(([first, size]) => offset > first && offset < first + size))
      .map(([name, { offset, type }]) => {
        const bytes = FIELD_BYTES[type];
        const array = arrays.find(([first]) => first === offset)?.[1];
        // The elements of an array are numbered: `mac0`.
        const title = array === undefined ? name : name.replace(/0$/, "");
        return this.#field(title, offset, array ?? bytes, (bytes === 8 ? 4 : bytes) as 1 | 2 | 4);
      });
  }

  /** One field, by accesses as wide as itself, or its elements, or half of 64 bits. */
  #field(title: string, at: number, width: number, step: 1 | 2 | 4): MmioRegister {
    const row = { offset: MMIO_CONFIG_OFFSET + at, width, name: `config.${title}`, select: null };
    const lack = configFieldLack(this.#reading.deviceId, this.#features, at);
    if (lack !== undefined) return { ...row, value: null, meaning: `not there: ${lack}` };
    let value = 0n;
    for (let part = 0; part < width; part += step) {
      value |= BigInt(this.#space.read(row.offset + part, step)) << BigInt(8 * part);
    }
    return { ...row, value, meaning: step === 1 && width > 1 ? bytesOf(value, width) : `${value}` };
  }

  get #configBytes(): number {
    const { form, deviceId } = this.#reading;
    const there = this.#window.sizeBytes - MMIO_CONFIG_OFFSET;
    const known = form === "legacy" ? legacyConfigBytes(deviceId) : deviceConfigBytes(deviceId);
    return Math.min(known ?? UNKNOWN_CONFIG_BYTES, there);
  }

  /** QueueNotify says where doorbells are. */
  get #drafted(): boolean {
    const { form } = this.#reading;
    return form === "v3" || form === "msi-v2" && (this.#features & DRAFT_FEATURE.MMIO_NOTIFICATION) !== 0n;
  }

  #offered({ feature }: RegisterDeclaration): boolean {
    return feature === undefined || (this.#features >> BigInt(feature) & 1n) === 1n;
  }

  #msiEnabled(): boolean {
    const { form } = this.#reading;
    if (form === "v3") return new Registers(MMIO_V3_CFG, this.#space).fields("msi_status").msi_enabled;
    if (form !== "msi-v2" || (this.#features & DRAFT_FEATURE.MMIO_MSI) === 0n) return false;
    return decodeRegister(this.#msiState, this.#registers.read("msi_state")).msi_enabled;
  }

  get #msiState(): typeof MMIO_MSI_V2_CFG.msi_state | typeof MSI_V2_STATE_LINUX {
    return this.#reading.options.msiStateBits === "linux" ? MSI_V2_STATE_LINUX : MMIO_MSI_V2_CFG.msi_state;
  }

  #select(name: string, value: number): void {
    this.#written.add(name);
    this.#registers.write(name, value);
  }

  #add(name: string, select: string | null, value: bigint | null, meaning: string): void {
    const { table } = this.#reading;
    const { offset, width } = table[name]!;
    this.rows.push({ offset, width, name: titleOf(table, name), select, value, meaning });
  }

  #meaning(name: string, value: bigint): string {
    const { table, deviceId } = this.#reading;
    switch (name) {
      case "magic_value":
        return '"virt"';
      case "version":
        return VERSIONS.get(Number(value)) ?? "not known";
      case "device_id":
        return value === 0n ? "placeholder: no device is behind it" : deviceTypeName(deviceId);
      case "device_status":
        return describeStatus(Number(value & 0xffn));
      case "interrupt_status":
        return [Number(value) & ISR.queue ? "used buffer" : "", Number(value) & ISR.config ? "config" : ""]
          .filter((one) => one !== "").join(", ");
      case "queue_size_max":
        return `${value} descriptors`;
      case "queue_ready":
        return value === 0n ? "not set up" : "in use";
      case "queue_reset":
        if (value > 1n) return `neither 0 nor 1: draft mmio-msi-v2 has MsiVecNum there (A-7.3)`;
        return value === 0n ? "" : "under way";
      case "queue_pfn":
        if (value === 0n) return "not set up";
        return `ring at 0x${
          (value * BigInt(LEGACY_RING_ALIGN)).toString(16)
        }, if GuestPageSize is ${LEGACY_RING_ALIGN}`;
      case "msi_state":
        return fieldsOf(this.#msiState, value);
      default:
        return fieldsOf(table[name]!, value);
    }
  }
}

const VERSIONS: ReadonlyMap<number, string> = new Map([
  [1, "legacy"],
  [2, "the standard, and draft mmio-msi-v2"],
  [3, "draft mmio-v3"],
]);

/** What the standard calls a register. */
function titleOf(table: RegisterTable, name: string): string {
  return table[name]!.name ?? name;
}

function fieldsOf(register: RegisterDeclaration, value: bigint): string {
  const decoded = decodeRegister(register, Number(value)) as Record<string, number | boolean>;
  return Object.keys(register.fields ?? {}).map((field) => `${field} ${Number(decoded[field])}`).join(", ");
}

/** Lowest first: `52:54:00:12:34:56`. */
function bytesOf(value: bigint, count: number): string {
  return Array.from(
    { length: count },
    (_, i) => Number(value >> BigInt(8 * i) & 0xffn).toString(16).padStart(2, "0"),
  ).join(":");
}
