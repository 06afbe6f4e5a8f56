/**
 * Root Complex Link Declaration, extended ID 0x0005 (PCIe 6.0 §7.9.8): what a root complex is made of, and how its parts are linked.
 *
 * @module
 */

import type { RegisterTable, RegisterValues } from "../../registers/declaration.ts";
import type { CapabilityDeclaration } from "./declaration.ts";
import type { CapabilityWindow } from "./window.ts";

/** The registers of each link, 16 bytes from one to the next. */
export const ROOT_COMPLEX_LINK_ENTRY = {
  /** Link Description. */
  description: {
    offset: 0,
    width: 4,
    fields: {
      valid: { bits: 0, access: "HwInit", label: "LinkValid" },
      /** It leads to a function's configuration space, not to memory. */
      toConfiguration: { bits: 1, access: "HwInit" },
      associatedRcrb: { bits: 2, access: "HwInit", label: "AssocRCRB" },
      targetComponentId: { bits: [23, 16], access: "HwInit" },
      targetPortNumber: { bits: [31, 24], access: "HwInit" },
    },
  },
  /** Link Address. */
  address: { offset: 8, width: 8 },
} as const satisfies RegisterTable;

/** A link. */
export interface RootComplexLink extends RegisterValues<typeof ROOT_COMPLEX_LINK_ENTRY> {
  /** The function that it leads to, where it leads to configuration space. */
  readonly function?: { readonly bus: number; readonly device: number; readonly function: number };
}

/** The links of an element. */
export interface RootComplexLinks {
  /** Link 1 first. */
  readonly links: readonly RootComplexLink[];
}

const LINKS_OFFSET = 0x10;
const LINK_BYTES = 0x10;

/** Root Complex Link Declaration. The length includes the links. */
export const ROOT_COMPLEX_LINK = {
  list: "extended",
  id: 0x0005,
  kind: "root-complex-link",
  title: "Root Complex Link",
  lengthBytes: (window: CapabilityWindow): number => {
    const { linkCount } = window.register(ROOT_COMPLEX_LINK.registers.element);
    return LINKS_OFFSET + LINK_BYTES * linkCount;
  },
  registers: {
    /** Element Self Description. */
    element: {
      offset: 4,
      width: 4,
      fields: {
        /** 0 configuration space, 1 egress port, 2 internal link. */
        type: { bits: [3, 0], access: "RO" },
        linkCount: { bits: [15, 8], access: "HwInit" },
        componentId: { bits: [23, 16], access: "HwInit" },
        portNumber: { bits: [31, 24], access: "HwInit" },
      },
    },
  },
  derive: (window: CapabilityWindow): RootComplexLinks => {
    const { linkCount } = window.register(ROOT_COMPLEX_LINK.registers.element);
    return {
      links: Array.from({ length: linkCount }, (_, i) => link(window, LINKS_OFFSET + LINK_BYTES * i)),
    };
  },
} as const satisfies CapabilityDeclaration;

function link(window: CapabilityWindow, at: number): RootComplexLink {
  const values = window.registers(ROOT_COMPLEX_LINK_ENTRY, at);
  if (!values.description.toConfiguration) return values;
  // The low three bits of the address say how many bits the bus number has; 0 stands for 8.
  const low = Number(values.address & 0xffffffffn), busBits = low & 7 || 8;
  return {
    ...values,
    function: {
      bus: (low >>> 20) & ((1 << busBits) - 1),
      device: (low >>> 15) & 0x1f,
      function: (low >>> 12) & 7,
    },
  };
}
