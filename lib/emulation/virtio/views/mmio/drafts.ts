/**
 * Registers of the two drafts with MSI and notification addresses (reference 7.2, 7.3).
 *
 * @module
 */
import { decodeRegister, encodeRegister } from "../../../../registers/declaration.ts";
import { DRAFT_FEATURE, FEATURE } from "../../../../virtio/spec/features.ts";
import {
  MMIO_MSI_V2_CFG,
  MMIO_V3_CFG,
  MSI_V2_COMMAND,
  MSI_V2_NO_VECTOR,
  MSI_V2_STATE_LINUX,
  MSI_V3_OP,
} from "../../../../virtio/spec/mmio.ts";
import { NO_VECTOR } from "../../../../virtio/spec/pci.ts";
import type { MmioMsi } from "./msi.ts";
import type { MmioNotify } from "./notify.ts";
import { type MmioParts, type MmioRegisterName, MmioRegisters } from "./registers.ts";

/** What the drafts have besides. */
export interface DraftParts extends MmioParts {
  /** Its vectors. */
  readonly msi: MmioMsi;
  /** Its doorbells. */
  readonly notify: MmioNotify;
}

/** What both drafts do alike. */
abstract class DraftRegisters extends MmioRegisters {
  /** Its vectors. */
  protected readonly msi: MmioMsi;
  readonly #notify: MmioNotify;

  constructor(parts: DraftParts, form: "v3" | "msi-v2", table: MmioRegisters["table"]) {
    super(parts, form, table);
    this.msi = parts.msi;
    this.#notify = parts.notify;
  }

  override get(name: MmioRegisterName, high: boolean): number {
    return name === "queue_notify" ? this.#notify.word : super.get(name, high);
  }

  override set(name: MmioRegisterName, high: boolean, value: number): void {
    switch (name) {
      case "msi_address":
      case "msi_addr":
        this.msi.latch[high ? 1 : 0] = value;
        return;
      case "msi_data":
        this.msi.latch[2] = value;
        return;
      default:
        super.set(name, high, value);
    }
  }

  /** Says what is wrong with a command. */
  protected wrong(rule: string, problem: string): void {
    this.core.report(rule, `MsiCmd: ${problem}`);
  }
}

const { msi_status: V3_STATUS, msi_cmd: V3_COMMAND } = MMIO_V3_CFG;

/** Version 3. */
export class V3Registers extends DraftRegisters {
  /** As after a reset. */
  constructor(parts: DraftParts) {
    super(parts, "v3", MMIO_V3_CFG);
  }

  override get(name: MmioRegisterName, high: boolean): number {
    if (name !== "msi_status") return super.get(name, high);
    return encodeRegister(V3_STATUS, {
      max_queue_num: this.core.queues.length,
      msi_enabled: this.msi.enabled,
    });
  }

  override set(name: MmioRegisterName, high: boolean, value: number): void {
    switch (name) {
      case "msi_cmd":
        return this.#command(value);
      // As the draft's Linux patch enables it.
      case "msi_status":
        return this.interrupts.setMsi(decodeRegister(V3_STATUS, value).msi_enabled);
      case "driver_features":
        if (this.selectors.driver_feature_select === 1 && (value & Number(FEATURE.RING_RESET >> 32n)) !== 0) {
          this.core.report("A-7.3", "RING_RESET was accepted: what would be QueueReset is MsiStatus here");
        }
        return super.set(name, high, value);
      default:
        super.set(name, high, value);
    }
  }

  #command(value: number): void {
    const { cmd_op: op, cmd_arg: argument } = decodeRegister(V3_COMMAND, value);
    if (op === MSI_V3_OP.ENABLE) {
      if (argument > 1) return this.wrong("7.2", `ENABLE with argument ${argument}, neither 0 nor 1`);
      return this.interrupts.setMsi(argument === 1);
    }
    if (op !== MSI_V3_OP.UPDATE) return this.wrong("7.2", `there is no operator ${op}`);
    if (argument < this.msi.count) return this.msi.configure(argument);
    this.wrong("A-7.16", `UPDATE of vector ${argument}: 0 is the configuration's, i + 1 queue i's`);
  }
}

/** Version 2 with feature bits 39 and 40. */
export class MsiV2Registers extends DraftRegisters {
  readonly #state: typeof MMIO_MSI_V2_CFG.msi_state | typeof MSI_V2_STATE_LINUX;
  #vector = MSI_V2_NO_VECTOR;

  /** As after a reset. @param linux MsiState as Linux reads it */
  constructor(parts: DraftParts, linux: boolean) {
    super(parts, "msi-v2", MMIO_MSI_V2_CFG);
    this.#state = linux ? MSI_V2_STATE_LINUX : MMIO_MSI_V2_CFG.msi_state;
  }

  override cleared(): void {
    super.cleared();
    this.#vector = MSI_V2_NO_VECTOR;
  }

  override get(name: MmioRegisterName, high: boolean): number {
    if (name === "msi_vec_num") return this.msi.count;
    if (name !== "msi_state") return super.get(name, high);
    return encodeRegister(this.#state, { msi_enabled: this.msi.enabled, msi_sharing: this.msi.sharing });
  }

  override set(name: MmioRegisterName, high: boolean, value: number): void {
    const ofMsi = name.startsWith("msi_");
    if (ofMsi && (this.core.negotiatedFeatures & DRAFT_FEATURE.MMIO_MSI) === 0n) {
      this.core.report("7.3", `${this.table[name]!.name} was written, MMIO_MSI was not negotiated`);
    } else if (name === "msi_vec_sel") this.#vector = value;
    else if (name === "msi_cmd") this.#command(value);
    else super.set(name, high, value);
  }

  #command(command: number): void {
    const { msi, interrupts } = this;
    switch (command) {
      case MSI_V2_COMMAND.ENABLE:
      case MSI_V2_COMMAND.DISABLE:
        return interrupts.setMsi(command === MSI_V2_COMMAND.ENABLE);
      case MSI_V2_COMMAND.CONFIGURE:
        return this.#onVector("CONFIGURE", (vector) => msi.configure(vector));
      case MSI_V2_COMMAND.MASK:
        return this.#onVector("MASK", (vector) => msi.setMasked(vector, true));
      case MSI_V2_COMMAND.UNMASK:
        return this.#onVector("UNMASK", (vector) => msi.setMasked(vector, false));
      case MSI_V2_COMMAND.MAP_CONFIG:
        return this.#map("MAP_CONFIG", (vector) => this.core.configVector = vector);
      case MSI_V2_COMMAND.MAP_QUEUE:
        return this.#map("MAP_QUEUE", (vector) => {
          const queue = this.existing("msi_cmd");
          if (queue !== undefined) queue.vector = vector;
        });
      default:
        this.wrong("7.3", `there is no command ${command}`);
    }
  }

  #onVector(command: string, act: (vector: number) => void): void {
    if (this.#vector < this.msi.count) return act(this.#vector);
    this.wrong("N-7.5", `${command} of vector ${this.#named}, there are ${this.msi.count}`);
  }

  /** Any event to any vector, or to none. */
  #map(command: string, act: (vector: number) => void): void {
    if (!this.msi.sharing) this.wrong("N-7.9", `${command} where the mapping is fixed (msi_sharing reads 0)`);
    else if (this.#vector === MSI_V2_NO_VECTOR) act(NO_VECTOR);
    else if (this.#vector < this.msi.count) act(this.#vector);
    else this.wrong("N-7.9", `${command} to vector ${this.#named}, there are ${this.msi.count}`);
  }

  get #named(): string {
    return this.#vector === MSI_V2_NO_VECTOR ? "NO_VECTOR" : `${this.#vector}`;
  }
}
