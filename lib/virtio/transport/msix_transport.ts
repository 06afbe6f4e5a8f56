/**
 * A transport whose vectors are numbers in registers, which are read back (SPEC "MSI-X Vector Configuration"; reference 2.2).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { DeviceError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { RegisterDeclaration, RegisterTable } from "../../registers/declaration.ts";
import { NO_VECTOR } from "../spec/pci.ts";
import { type CoreRegister, RegisterTransport } from "./register_transport.ts";
import type { InterruptKind } from "./transport.ts";

/** MSI-X has so many vectors at most (PCIe 6.0 §7.7.2). */
const VECTORS_MAX = 2048;
type VectorRegister = "config_msix_vector" | "queue_msix_vector";

/** See the module. */
export abstract class MsixTransport<
  T extends RegisterTable & Record<CoreRegister | VectorRegister, RegisterDeclaration>,
> extends RegisterTransport<T> {
  static {
    typedErrors(this);
  }

  /** Vectors of a kind. Virtio uses MSI-X and INTx of a function, and never MSI. */
  override interruptCount(kind: InterruptKind): number {
    const count = super.interruptCount(kind);
    return kind === "msi" ? 0 : count;
  }

  /** `config_msix_vector`, read back. */
  setConfigVector(vector: number | null): void {
    this.requireOpen();
    this.#setVector("config_msix_vector", vector);
  }

  /** `queue_msix_vector`, read back. */
  setQueueVector(queue: number, vector: number | null): void {
    this.select(queue);
    this.#setVector("queue_msix_vector", vector, queue);
  }

  /** The vector registers are there. */
  protected get hasVectors(): boolean {
    return true;
  }

  /** `queue_msix_vector`. */
  protected override queueVector(_queue: number): number | null {
    const vector = this.hasVectors ? this.registers.read("queue_msix_vector") : NO_VECTOR;
    return vector === NO_VECTOR ? null : vector;
  }

  #setVector(register: VectorRegister, vector: number | null, queue?: number): void {
    if (!this.hasVectors) {
      throw new UsageError(`${this.name}: ${register} is there only while MSI-X is enabled (2.3)`, {
        hint: 'call enableInterrupts("msix", …) first',
      });
    }
    if (vector !== null && !(Number.isInteger(vector) && vector >= 0 && vector < VECTORS_MAX)) {
      throw new UsageError(`there is no MSI-X vector ${shown(vector)}`);
    }
    const value = vector ?? NO_VECTOR;
    this.registers.write(register, value);
    const readBack = this.registers.read(register);
    if (readBack === value) return;
    const got = readBack === NO_VECTOR ? "the device refuses it" : `${readBack} reads back`;
    const where = { function: this.name, ...(queue === undefined ? {} : { queue }), field: register };
    throw new DeviceError(`vector ${vector} was written, ${got}`, where, {
      hint: "ask for fewer vectors, or poll",
    });
  }
}
