/**
 * Whether a function answers accesses to its memory BARs.
 *
 * While it does not, the kernel takes the pages of a mapped BAR away, and a touch of one ends the process with SIGBUS. So
 * BARs are mapped only while memory decoding is on, and unmapped here as soon as a configuration write turns it off.
 *
 * @module
 */
import { POWER_MANAGEMENT } from "../../pci/capability/power_management.ts";
import { HEADER } from "../../pci/header.ts";
import { ConfigAccess } from "../config_access.ts";
import type { VfioDevice } from "../device.ts";

const COMMAND_MEMORY = 1 << 1;
const STATUS_CAPABILITIES = 1 << 4;
const FIRST_CAPABILITY = 0x40;
/** 48 capabilities of 4 bytes fill the space behind the header. */
const MAX_CAPABILITIES = 48;
const D3_HOT = 3;

/** Watches one function's configuration space. */
export class MemoryDecoding {
  readonly #device: VfioDevice;
  #access: ConfigAccess | undefined;
  /** Offset of the power management capability; 0 when there is none; undefined before it is looked for. */
  #powerManagement: number | undefined;

  /** Reads nothing yet. */
  constructor(device: VfioDevice) {
    this.#device = device;
  }

  get #config(): ConfigAccess {
    return this.#access ??= new ConfigAccess(this.#device);
  }

  /** True when memory space is enabled and the function is not in D3hot. @throws SyscallError */
  get on(): boolean {
    if ((this.#config.read16(HEADER.command.offset) & COMMAND_MEMORY) === 0) return false;
    const at = this.#powerManagement ??= this.#findPowerManagement();
    return at === 0 ||
      (this.#config.read16(at + POWER_MANAGEMENT.registers.control.offset) & D3_HOT) !== D3_HOT;
  }

  #findPowerManagement(): number {
    if ((this.#config.read16(HEADER.status.offset) & STATUS_CAPABILITIES) === 0) return 0;
    let at = this.#config.read16(HEADER.capabilitiesPointer.offset) & 0xfc;
    for (let i = 0; i < MAX_CAPABILITIES && at >= FIRST_CAPABILITY; i++) {
      const header = this.#config.read16(at);
      if ((header & 0xff) === POWER_MANAGEMENT.id) return at;
      at = (header >> 8) & 0xfc;
    }
    return 0;
  }
}
