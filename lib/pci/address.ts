/**
 * The address of a PCI function: domain, bus, device and function number, and the arithmetic that SR-IOV does on
 * the lower 16 bits of it (the routing ID).
 *
 * @module
 */

import { requireType, typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { hex } from "./hex.ts";

/** Text that {@linkcode PciAddress.parse} accepts, for messages and help pages. */
export const PCI_ADDRESS_FORMS: string =
  '"DDDD:BB:DD.F" such as "0000:01:00.0", or "BB:DD.F" such as "01:00.0" for domain 0 (hexadecimal digits)';

/** The numbers that make up an address. */
export interface PciAddressParts {
  /** PCI domain (ACPI segment, or a made-up number for hierarchies behind VMD): 0 … 0xffffffff. Default 0. */
  readonly domain?: number;
  /** Bus number: 0 … 255. */
  readonly bus: number;
  /** Device number: 0 … 31. */
  readonly device: number;
  /** Function number: 0 … 7. */
  readonly function: number;
}

/** Where an SR-IOV capability places its VFs, relative to the PF. */
export interface VfPlacement {
  /** First VF Offset: from the PF's routing ID to that of the first VF. */
  readonly firstVfOffset: number;
  /** VF Stride: from one VF's routing ID to the next. */
  readonly vfStride: number;
}

const PATTERN = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i;

/**
 * An immutable PCI function address.
 *
 * With Alternative Routing-ID (ARI) a device has up to 256 functions and no device number; Linux and `lspci`
 * still write the 8-bit function number as `device.function`, and so does this class.
 */
export class PciAddress {
  static {
    typedErrors(this);
  }

  /** PCI domain, up to 32 bits. */
  readonly domain: number;
  /** Bus number, 8 bits. */
  readonly bus: number;
  /** Device number, 5 bits. */
  readonly device: number;
  /** Function number, 3 bits. */
  readonly function: number;

  /**
   * Makes an address from its numbers.
   *
   * @throws {UsageError} when a number is not an integer or is out of its range
   */
  constructor(parts: PciAddressParts) {
    requireType(parts, "object", "new PciAddress: parts");
    const domain = parts.domain ?? 0;
    check("domain", domain, 0xffffffff);
    check("bus", parts.bus, 0xff);
    check("device", parts.device, 0x1f);
    check("function", parts.function, 7);
    this.domain = domain;
    this.bus = parts.bus;
    this.device = parts.device;
    this.function = parts.function;
  }

  /**
   * Reads an address as Linux and `lspci` write it, with or without the domain.
   *
   * @throws {UsageError} naming the text and the accepted forms
   */
  static parse(text: string): PciAddress {
    const address = PciAddress.tryParse(text);
    if (address === undefined) {
      throw new UsageError(`${JSON.stringify(text)} is not a PCI address`, {
        hint: `write it as ${PCI_ADDRESS_FORMS}; device is at most 1f and function at most 7`,
      });
    }
    return address;
  }

  /** Like {@linkcode parse}, but gives `undefined` for text that is no address. */
  static tryParse(text: string): PciAddress | undefined {
    const match = PATTERN.exec(text);
    if (match === null) return undefined;
    const [, domain = "0", bus = "", device = "", fn = ""] = match;
    const deviceNumber = parseInt(device, 16);
    if (deviceNumber > 0x1f) return undefined;
    return new PciAddress({
      domain: parseInt(domain, 16),
      bus: parseInt(bus, 16),
      device: deviceNumber,
      function: parseInt(fn, 16),
    });
  }

  /**
   * Makes an address from a 16-bit routing ID.
   *
   * @throws {UsageError} when `routingId` is not a 16-bit number
   */
  static fromRoutingId(routingId: number, domain: number = 0): PciAddress {
    check("routing ID", routingId, 0xffff);
    return new PciAddress({
      domain,
      bus: routingId >>> 8,
      device: (routingId >>> 3) & 0x1f,
      function: routingId & 7,
    });
  }

  /** Bus, device and function as the 16 bits that a TLP carries as requester ID. */
  get routingId(): number {
    return (this.bus << 8) | (this.device << 3) | this.function;
  }

  /** Device and function as one byte (`PCI_DEVFN` of Linux; the function number under ARI). */
  get devfn(): number {
    return (this.device << 3) | this.function;
  }

  /**
   * The address of a VF of this PF (PCIe 6.0 §9.2.1.2). The sum carries into the bus number, so VFs may lie on
   * buses that no other function is on.
   *
   * @param index 0 for the first VF, as in sysfs `virtfn0`. The standard counts VFs from 1.
   * @throws {UsageError} when the index is negative, or the VF would lie past bus 0xff
   */
  vf(index: number, placement: VfPlacement): PciAddress {
    check("VF index", index, 0xffff);
    const routingId = this.routingId + placement.firstVfOffset + index * placement.vfStride;
    if (routingId > 0xffff) {
      throw new UsageError(
        `VF ${index} of ${this} would have routing ID 0x${
          routingId.toString(16)
        }, past the last bus of its domain`,
        { hint: `First VF Offset is ${placement.firstVfOffset} and VF Stride ${placement.vfStride}` },
      );
    }
    return PciAddress.fromRoutingId(routingId, this.domain);
  }

  /** Whether both name the same function. */
  equals(other: PciAddress): boolean {
    return this.domain === other.domain && this.routingId === other.routingId;
  }

  /** Sort order of `lspci`: domain, bus, device, function. */
  static compare(a: PciAddress, b: PciAddress): number {
    return a.domain - b.domain || a.routingId - b.routingId;
  }

  /** `"0000:01:00.0"`: the form of Linux, sysfs and VFIO; the domain has at least four digits. */
  toString(): string {
    return `${hex(this.domain, 4)}:${this.toShortString()}`;
  }

  /** `"01:00.0"`, without the domain. */
  toShortString(): string {
    return `${hex(this.bus, 2)}:${hex(this.device, 2)}.${this.function}`;
  }

  /** An address is written to JSON as its text. */
  toJSON(): string {
    return this.toString();
  }
}

function check(what: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new UsageError(`PCI ${what} ${shown(value)} is out of range`, {
      hint: `an integer from 0 to 0x${max.toString(16)} is needed`,
    });
  }
}
