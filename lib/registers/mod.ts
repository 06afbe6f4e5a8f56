/**
 * Registers: declared once, with their fields, and read and written by name wherever they are.
 *
 * ```ts
 * const EDU = {
 *   identification: { offset: 0x00, width: 4, access: "R", fields: { major: { bits: [31, 24], access: "RO" } } },
 *   status: { offset: 0x20, width: 4, access: "RW" },
 * } as const satisfies RegisterTable;
 * const edu = new Registers(EDU, new Bar(device, 0));
 * edu.write("status", 0x80);
 * edu.fields("identification").major;
 * ```
 *
 * @module
 */
export type * from "./declaration.ts";
export {
  type RegisterAccess,
  type RegisterPlace,
  Registers,
  type RegisterSpace,
  TracedSpace,
} from "./registers.ts";
