/**
 * What transports over registers do alike, whatever carries the registers and wherever the table has them: status and reset with waiting,
 * config space, the selected queue, interrupts.
 *
 * @module
 */
import { type EventFd, sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { DeviceError, TimeoutError } from "../../errors/mod.ts";
import type { AccessWidth, RegisterDeclaration, RegisterTable } from "../../registers/declaration.ts";
import type { Registers, RegisterSpace } from "../../registers/registers.ts";
import type { InterruptVector } from "../../wait/interrupt_vector.ts";
import type { InterruptSet } from "../../vfio/interrupts.ts";
import { describeStatus } from "../spec/status.ts";
import { BaseTransport, type DrivenDevice } from "./base_transport.ts";
import { quietly } from "./letting_go.ts";
import type { Doorbell, InterruptKind, Profile, QueueAddresses, VirtioTransport } from "./transport.ts";

/** How long a reset may take, of the device or of a queue. */
export const PATIENT_RESET_MS = 5000;
/** Queues that are looked for at most where nothing says how many there are. */
const QUEUES_LOOKED_FOR = 1024;

/** Registers that every table has under these names; a table of another text names its own as `name`. */
export type CoreRegister = "device_status" | "queue_select";

/** What a transport is made of. */
export interface RegisterTransportParts<T extends RegisterTable> {
  /** What is driven; stays its owner's. */
  readonly device: DrivenDevice;
  /** Bound to whatever carries them. */
  readonly registers: Registers<T>;
  /** Its interrupts. */
  readonly interrupts: Pick<InterruptSet, "available" | "enable" | "disable" | "rearm" | "kind">;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Default `spec`. */
  readonly profile?: Profile | undefined;
}

/** A transport as a table of registers; what is peculiar to one is in its subclass. */
export abstract class RegisterTransport<T extends RegisterTable & Record<CoreRegister, RegisterDeclaration>>
  extends BaseTransport
  implements VirtioTransport {
  static {
    typedErrors(this);
  }

  abstract readonly legacy: boolean;
  /** By name. */
  protected readonly registers: Registers<T>;
  /** Its own. */
  protected readonly interrupts: RegisterTransportParts<T>["interrupts"];
  /** Reads of a register that is waited for before the first sleep. */
  protected readonly eagerReads: number = 100;
  #queueCount: number | undefined;

  /** Touches no register. */
  protected constructor({ device, registers, interrupts, deviceId, profile }: RegisterTransportParts<T>) {
    super(device, deviceId, profile);
    this.registers = registers;
    this.interrupts = interrupts;
  }

  abstract readonly queueCount: number;
  abstract readDeviceFeatures(): bigint;
  abstract configGeneration(): number;
  abstract queueMaxSize(queue: number): number;
  abstract enableQueue(queue: number, addresses: QueueAddresses): void;
  abstract doorbell(queue: number): Doorbell;
  abstract readInterruptStatus(): number;
  abstract setConfigVector(vector: number | null): void;
  abstract setQueueVector(queue: number, vector: number | null): void;

  /** The config space, from its own offset 0 on. Asked for only where it has bytes. */
  protected abstract get configSpace(): RegisterSpace;
  /** Lets go of what carries the registers. @param stopped the device has taken its reset; undefined when it is gone */
  protected abstract release(stopped: boolean | undefined): void;

  /**
   * The device goes on with a driver that negotiated with another: what it accepted there, without writing it here, where it came with the
   * device's state (device parts). @throws UsageError for bits that cannot be carried
   */
  adoptDriverFeatures(bits: bigint): void {
    this.rememberDriverFeatures(bits);
  }

  /** `device_status`. */
  readStatus(): number {
    return this.get("device_status");
  }

  /** `device_status`, as it is. */
  writeStatus(status: number): void {
    this.put("device_status", status);
  }

  /** Writes 0 and reads until it is 0, which most devices give at once. Default `timeoutMs` 5000. */
  reset(timeoutMs: number = PATIENT_RESET_MS): void {
    this.put("device_status", 0);
    this.rememberDriverFeatures(0n);
    this.#queueCount = undefined;
    const last = this.readUntil(() => this.registers.read("device_status"), 0, timeoutMs);
    if (last === 0) return;
    throw new TimeoutError(
      `${this.name}: reset not finished after ${timeoutMs} ms; device_status reads ${describeStatus(last)}`,
      { hint: "reset the function itself (VfioDevice.reset), then open the transport again" },
    );
  }

  /** One access of that width. */
  readConfig(offset: number, width: AccessWidth): number {
    this.requireConfig(offset, width);
    return this.configSpace.read(offset, width);
  }

  /** One access of that width. */
  writeConfig(offset: number, width: AccessWidth, value: number): void {
    this.requireConfig(offset, width);
    this.configSpace.write(offset, width, value);
  }

  /** Vectors of a kind. */
  interruptCount(kind: InterruptKind): number {
    this.requireOpen();
    return kind === "none" ? 0 : this.interrupts.available(kind);
  }

  /** Eventfds by vector; they are closed by `disableInterrupts`. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    if (kind === "none" || this.closed) { for (const one of given ?? []) one.close(); }
    this.requireOpen();
    if (kind === "none") return [];
    const acknowledge = () => this.interrupts.kind === "intx" ? this.#acknowledgeLine() : 3;
    return this.interrupts.enable(kind, count, given).map((eventFd) => ({ eventFd, acknowledge }));
  }

  /** Turns them off and closes their eventfds. */
  disableInterrupts(): void {
    this.requireOpen();
    this.interrupts.disable();
  }

  /** As `close` says. */
  protected override end(gone: boolean): void {
    const stopped = gone ? undefined : quietly(() => this.registers.write("device_status", 0));
    // Its eventfds are closed whatever the answer.
    quietly(() => this.interrupts.disable());
    this.release(stopped);
  }

  /** Reads a register. @throws ClosedError */
  protected get(name: keyof T & string): number {
    this.requireOpen();
    return this.registers.read(name);
  }

  /** Writes a register. @throws ClosedError */
  protected put(name: keyof T & string, value: number): void {
    this.requireOpen();
    this.registers.write(name, value);
  }

  /** Chooses the queue that the queue registers are about. @throws UsageError, ClosedError */
  protected select(queue: number): void {
    this.requireQueue(queue);
    this.registers.write("queue_select", queue);
  }

  /** Reads a register until it has this value. @returns what it read last */
  protected readUntil(read: () => number, wanted: number, timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    for (let reads = 1;; reads++) {
      const value = read();
      if (value === wanted || performance.now() >= deadline) return value;
      if (reads > this.eagerReads) sleepBlocking(1);
    }
  }

  /** Vector of the selected queue; null for none. */
  protected override queueVector(_queue: number): number | null {
    return null;
  }

  /** Queues from 0 up to the first of size 0, where no register says how many there are. Counted at the first call after a reset; not more than 1024 are looked for. */
  protected countQueues(): number {
    this.requireOpen();
    let count = this.#queueCount;
    if (count === undefined) {
      for (count = 0; count < QUEUES_LOOKED_FOR && this.queueMaxSize(count) > 0;) count++;
      this.#queueCount = count;
    }
    return count;
  }

  /** That the device contradicts itself in a register of a queue. */
  protected error(queue: number, field: keyof T & string, message: string): DeviceError {
    return new DeviceError(message, {
      function: this.name,
      queue,
      field: this.registerName(field),
    });
  }

  /** See `VirtioTransport`. */
  registerName(register: string): string {
    return this.registers.table[register]?.name ?? register;
  }

  /** Reading the ISR lowers the line; then it may fire again. */
  #acknowledgeLine(): number {
    const isr = this.readInterruptStatus();
    this.interrupts.rearm();
    return isr;
  }
}
