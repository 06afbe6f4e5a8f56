/**
 * What every function of the emulated machine is to its user, whatever bus it is on: one user at a time, doorbells that are watched while there is
 * one, and an end.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import type { EventFd, OwnedFd } from "../../ffi/mod.ts";
import type { IrqInfo, VfioDeviceInfo } from "../vfio/device.ts";
import type { DmaTable } from "../sockets/dma_table.ts";
import type {
  ServedDevice,
  ServedDoorbell,
  ServedIrqRequest,
  ServedMapping,
  ServedMigration,
  ServedRegion,
} from "../sockets/vfio_user/server/served_device.ts";
import type { DeviceBehaviour, DevicePort } from "./device_behaviour.ts";
import type { Violation } from "./device_model.ts";
import type { LineInterrupt } from "./line_interrupt.ts";
import type { SocketSurroundings } from "./machine_socket.ts";

/** What a function needs of the machine around it. */
export interface DeviceSurroundings extends SocketSurroundings {
  /** Another eventfd unmasks the interrupt line: stop watching one, watch the other and call `interrupts.line.resampled`. */
  resampleChanged(before: EventFd | null, now: EventFd | null): void;
}

/** Interrupts of a function, by VFIO's indices. */
export interface DeviceInterrupts {
  /** Its line; what is not wired is never told. */
  readonly line: LineInterrupt;
  /** How often each vector or message was signalled. */
  readonly signals: ArrayLike<number>;
  /** `vfio_irq_info`. */
  info(index: number): IrqInfo;
  /** SET_IRQS; takes ownership of the eventfds, also when it fails. @throws UsageError */
  set(index: number, request: ServedIrqRequest): void;
  /** The user is gone: closes every eventfd. */
  detach(): void;
}

/** See the module. */
export abstract class EmulatedDevice<Behaviour extends DeviceBehaviour = DeviceBehaviour>
  implements ServedDevice, DevicePort, Disposable {
  static {
    typedErrors(this);
  }

  /** Full address. */
  readonly name: string;
  /** What stands behind its registers. */
  readonly behaviour: Behaviour;
  readonly keepsDmaFiles: boolean;
  readonly addressSpaces: readonly DmaTable[] | undefined;
  readonly mapArea?: (
    index: number,
    offset: number,
    sizeBytes: number,
    writable: boolean,
  ) => ServedMapping | undefined;
  readonly migration: ServedMigration | undefined;
  readonly watch: (fd: OwnedFd, handler: () => void) => void;
  readonly unwatch: (fd: OwnedFd) => void;
  readonly #around: DeviceSurroundings;
  /** Doorbells that are watched: those of the regions that the user asked for. */
  readonly #rung = new Map<number, readonly ServedDoorbell[]>();
  #dma: DmaTable | null = null;
  #closed = false;

  /** Without a user. The behaviour is not connected yet. */
  protected constructor(name: string, behaviour: Behaviour, around: DeviceSurroundings) {
    this.name = name;
    this.behaviour = behaviour;
    this.#around = around;
    this.watch = around.watch;
    this.unwatch = around.unwatch;
    this.migration = behaviour.migration;
    this.keepsDmaFiles = behaviour.keepsDmaFiles ?? false;
    this.addressSpaces = behaviour.addressSpaces;
    if (behaviour.mapArea === undefined) return;
    this.mapArea = (index, offset, sizeBytes, writable) => {
      if (!this.hasRegisters(index)) return undefined;
      this.checkAnswers(index, "map");
      return behaviour.mapArea!(index, offset, sizeBytes, writable);
    };
  }

  /** `vfio_device_info`. */
  abstract readonly info: VfioDeviceInfo;
  /** Its interrupts. */
  abstract readonly interrupts: DeviceInterrupts;
  abstract region(index: number): ServedRegion;
  abstract readRegion(index: number, offset: number, into: Uint8Array): void;
  abstract writeRegion(index: number, offset: number, from: Uint8Array): void;
  /** Reset by a VFIO user (VFIO_DEVICE_RESET). */
  abstract reset(): void;
  /** Reset by the host's kernel. */
  abstract resetByHost(): void;
  /** A driver of the host's kernel takes or leaves the function. */
  abstract setHostDriver(active: boolean): void;
  /** The kernel asks the user to give the function back, where its bus has an interrupt for that. */
  abstract requestRelease(): void;

  /** The behaviour answers for a region of this number. */
  protected abstract hasRegisters(index: number): boolean;
  /** It answers to accesses of a region now. @throws SyscallError EIO when it does not */
  protected abstract checkAnswers(index: number, call: string): void;
  /** A user came, and the behaviour has not heard of it. */
  protected abstract opened(): void;
  /** The user is gone: what is the bus's is as at power-on. */
  protected abstract powerOn(): void;

  /** A user is there. */
  get inUse(): boolean {
    return this.#dma !== null;
  }

  get dma(): DmaTable | null {
    return this.#dma;
  }

  /** `vfio_irq_info`. */
  irq(index: number): IrqInfo {
    return this.interrupts.info(index);
  }

  /** SET_IRQS. */
  setIrqs(index: number, request: ServedIrqRequest): void {
    this.interrupts.set(index, request);
  }

  report(violation: Violation): void {
    this.#around.violation(violation);
  }

  wake(): void {
    this.#around.touched();
  }

  /**
   * Doorbells of a region, watched from now on until the user goes: a function that nobody drives has none.
   * @throws SyscallError when there are no more descriptors
   */
  doorbells(index: number): readonly ServedDoorbell[] {
    if (!this.hasRegisters(index)) return [];
    const doorbells = this.behaviour.doorbells(index);
    if (this.#rung.get(index) !== doorbells) this.#watchDoorbells(index, doorbells);
    return doorbells;
  }

  /** A user is there. */
  attached(dma: DmaTable): void {
    this.#dma = dma;
    this.opened();
    this.behaviour.attached();
    this.#around.userChanged(true);
  }

  /** Part of the user's memory goes away. */
  dmaWillUnmap(iova: bigint, sizeBytes: number): void {
    this.behaviour.dmaWillUnmap(iova, sizeBytes);
  }

  /** The user is gone. */
  detached(): void {
    if (this.#dma === null) return;
    try {
      this.behaviour.reset("detached");
    } finally {
      this.#dma = null;
      this.#around.userChanged(false);
      for (const index of [...this.#rung.keys()]) this.#unwatchDoorbells(index);
      this.interrupts.detach();
      this.powerOn();
      this.behaviour.detached();
    }
  }

  /** The function is gone. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detached();
    this.interrupts.detach();
    this.behaviour.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #watchDoorbells(index: number, doorbells: readonly ServedDoorbell[]): void {
    this.#unwatchDoorbells(index);
    this.#rung.set(index, doorbells);
    try {
      const watched = new Set<OwnedFd>();
      for (const { fd, offset, value } of doorbells) {
        // One eventfd may stand for writes at several addresses.
        if (watched.has(fd.fd)) continue;
        watched.add(fd.fd);
        this.watch(fd.fd, () => {
          if (!fd.closed && fd.take() > 0) this.behaviour.rang(index, offset, value);
        });
      }
    } catch (error) {
      this.#unwatchDoorbells(index);
      throw error;
    }
  }

  /** The user holds the same open files: closing alone would leave them in the epoll set. */
  #unwatchDoorbells(index: number): void {
    for (const { fd } of this.#rung.get(index) ?? []) this.unwatch(fd.fd);
    this.#rung.delete(index);
  }
}
