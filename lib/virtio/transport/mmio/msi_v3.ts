/**
 * MSI as profile `mmio-v3` has it: MsiStatus, MsiCmd with UPDATE and ENABLE, vectors that are mapped once and for all (reference 7.2).
 *
 * @module
 */
import { encodeRegister } from "../../../registers/declaration.ts";
import { Registers, type RegisterSpace } from "../../../registers/registers.ts";
import type { MsiMessage } from "../../../vfio/msi_addresses.ts";
import { fixedMsiVector, MMIO_V3_CFG, MSI_V3_OP } from "../../spec/mmio.ts";
import type { MsiProgram, MsiSource } from "./interrupts.ts";
import { UnsupportedError } from "../../../errors/mod.ts";

const { msi_status, msi_cmd } = MMIO_V3_CFG;
const ENABLED = 1 << msi_status.fields.msi_enabled.bits;

/** Vector 0 is the config space's, and i + 1 queue i's. */
export class MsiV3 implements MsiProgram {
  readonly masks = false;
  readonly #registers: Registers<typeof MMIO_V3_CFG>;
  readonly #space: RegisterSpace;
  readonly #transport: { readonly name: string; readonly queueCount: number };
  readonly #byStatus: boolean;

  /** Touches nothing. @param byStatus turn it on and off by MsiStatus */
  constructor(
    transport: { readonly name: string; readonly queueCount: number },
    space: RegisterSpace,
    byStatus: boolean,
  ) {
    this.#transport = transport;
    this.#space = space;
    this.#registers = new Registers(MMIO_V3_CFG, space);
    this.#byStatus = byStatus;
  }

  /** One for each queue, and the config space's. That MSI is not enabled yet says nothing of whether there is one. */
  get vectors(): number {
    return this.lack === undefined ? this.#transport.queueCount + 1 : 0;
  }

  get lack(): string | undefined {
    const { name, queueCount } = this.#transport;
    const { max_queue_num: most } = this.#registers.fields("msi_status");
    if (queueCount <= most) return undefined;
    return `${name}: MsiStatus speaks of ${most} queues, and there are ${queueCount}; use the line, or poll`;
  }

  /** Address low, high, data, then UPDATE with the vector. */
  bind(source: MsiSource, _vector: number, message: MsiMessage | null): boolean {
    const { name, queueCount } = this.#transport;
    if (message === null) {
      throw new UnsupportedError(`${name}: version 3 has no command that takes a vector away`, {
        hint: "suppress the queue's interrupts in its ring, or reset the device",
      });
    }
    if (source !== "config" && source >= queueCount) return false;
    this.#registers.write64("msi_address", message.address);
    this.#registers.write("msi_data", message.data);
    this.#command("UPDATE", fixedMsiVector(source));
    return true;
  }

  turn(on: boolean): boolean {
    if (this.#byStatus) {
      const before = this.#registers.read("msi_status");
      this.#space.write(
        msi_status.offset,
        msi_status.width,
        on ? before | ENABLED : before & ~ENABLED,
      );
    } else this.#command("ENABLE", Number(on));
    return this.#registers.fields("msi_status").msi_enabled;
  }

  #command(op: keyof typeof MSI_V3_OP, argument: number): void {
    this.#registers.write("msi_cmd", encodeRegister(msi_cmd, { cmd_op: MSI_V3_OP[op], cmd_arg: argument }));
  }
}
