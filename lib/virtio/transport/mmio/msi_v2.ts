/**
 * MSI as profile `mmio-msi-v2` has it: vectors that are selected, configured, masked and, where the device shares them, mapped (reference 7.3).
 *
 * @module
 */
import { decodeRegister } from "../../../registers/declaration.ts";
import { Registers, type RegisterSpace } from "../../../registers/registers.ts";
import type { MsiMessage } from "../../../vfio/msi_addresses.ts";
import { DRAFT_FEATURE } from "../../spec/features.ts";
import {
  fixedMsiVector,
  MMIO_MSI_V2_CFG,
  MSI_V2_COMMAND,
  MSI_V2_NO_VECTOR,
  MSI_V2_STATE_LINUX,
} from "../../spec/mmio.ts";
import type { MsiProgram, MsiSource } from "./interrupts.ts";

/** Vectors are looked at no further: MsiVecNum is the device's word. */
const VECTORS_MAX = 2048;

/** What of the transport it needs. */
interface Transport {
  readonly name: string;
  readonly queueCount: number;
  readonly driverFeatures: bigint;
}

/** Without sharing, vector 0 is the config space's and i + 1 queue i's; with it, the device's vectors are the driver's. */
export class MsiV2 implements MsiProgram {
  readonly masks = true;
  readonly #registers: Registers<typeof MMIO_MSI_V2_CFG>;
  readonly #transport: Transport;
  readonly #state: typeof MMIO_MSI_V2_CFG.msi_state | typeof MSI_V2_STATE_LINUX;
  /** Message of each of the device's vectors. */
  readonly #configured = new Map<number, MsiMessage>();

  /** Touches nothing. @param stateBits where the fields of MsiState are */
  constructor(transport: Transport, space: RegisterSpace, stateBits: "spec" | "linux") {
    this.#transport = transport;
    this.#registers = new Registers(MMIO_MSI_V2_CFG, space);
    this.#state = stateBits === "linux" ? MSI_V2_STATE_LINUX : MMIO_MSI_V2_CFG.msi_state;
  }

  get vectors(): number {
    if (this.lack !== undefined) return 0;
    const { queueCount } = this.#transport;
    return this.#sharing ? Math.min(this.#registers.read("msi_vec_num"), VECTORS_MAX) : queueCount + 1;
  }

  get lack(): string | undefined {
    const { name, driverFeatures, queueCount } = this.#transport;
    if ((driverFeatures & DRAFT_FEATURE.MMIO_MSI) === 0n) {
      return `${name}: VIRTIO_F_MMIO_MSI was not negotiated; use the line, or poll`;
    }
    const count = this.#registers.read("msi_vec_num");
    if (this.#sharing ? count >= 1 : count > queueCount) return undefined;
    return `${name}: MsiVecNum is ${count}, which is too few for ${queueCount} queues; use the line, or poll`;
  }

  /** MsiVecSel, then mask, address, data, CONFIGURE, unmask; and MAP_* where vectors are shared, and only there (N-7.9). */
  bind(source: MsiSource, vector: number, message: MsiMessage | null): boolean {
    const sharing = this.#sharing;
    const place = sharing ? vector : fixedMsiVector(source);
    if (place >= this.#registers.read("msi_vec_num")) return false;
    if (message === null && sharing) this.#map(source, MSI_V2_NO_VECTOR);
    else if (message === null) {
      this.#registers.write("msi_vec_sel", place);
      this.#command("MASK");
      this.#configured.delete(place);
    } else {
      if (this.#configured.get(place) !== message) this.#configure(place, message);
      if (sharing) this.#map(source, place);
    }
    return true;
  }

  turn(on: boolean): boolean {
    this.#command(on ? "ENABLE" : "DISABLE");
    return this.#stateNow.msi_enabled;
  }

  forget(): void {
    this.#configured.clear();
  }

  #configure(place: number, message: MsiMessage): void {
    this.#registers.write("msi_vec_sel", place);
    this.#command("MASK");
    this.#registers.write64("msi_addr", message.address);
    this.#registers.write("msi_data", message.data);
    this.#command("CONFIGURE");
    this.#command("UNMASK");
    this.#configured.set(place, message);
  }

  #map(source: MsiSource, place: number): void {
    if (source !== "config") this.#registers.write("queue_select", source);
    this.#registers.write("msi_vec_sel", place);
    this.#command(source === "config" ? "MAP_CONFIG" : "MAP_QUEUE");
  }

  #command(command: keyof typeof MSI_V2_COMMAND): void {
    this.#registers.write("msi_cmd", MSI_V2_COMMAND[command]);
  }

  get #stateNow(): { readonly msi_enabled: boolean; readonly msi_sharing: boolean } {
    return decodeRegister(this.#state, this.#registers.read("msi_state"));
  }

  get #sharing(): boolean {
    return this.#stateNow.msi_sharing;
  }
}
