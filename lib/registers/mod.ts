/**
 * Registers in the shape of a datasheet: declared once, with their fields, and read and written by name wherever they are.
 *
 * ```ts
 * import { Registers, registerTable } from "@ringside/ringside/registers";
 * import { Bar } from "@ringside/ringside/vfio";
 *
 * const EDU = registerTable({
 *   identification: { offset: 0x00, width: 4, access: "R", fields: { major: { bits: [31, 24], access: "RO" } } },
 *   factorial: { offset: 0x08, width: 4 },
 *   status: { offset: 0x20, width: 4, fields: { computing: { bits: 0, access: "RO" } } },
 * });
 * const edu = new Registers(EDU, new Bar(device, 0)); // an opened function
 * edu.fields("identification").major;
 * edu.set("factorial", 5);
 * await edu.waitFor("status", { computing: false }, 1000);
 * edu.get("factorial"); // 120
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
  type RegisterWish,
  TracedSpace,
} from "./registers.ts";
export {
  type Below,
  type BitsOf,
  type FieldsInside,
  type OneWayEach,
  type OthersAt,
  registerTable,
  type SoundTable,
} from "./table.ts";
export {
  checkDump,
  diffDumps,
  type DumpedField,
  type DumpedRegister,
  type DumpOptions,
  formatDiff,
  formatDump,
  type RegisterChange,
  type RegisterDump,
} from "./dump.ts";
export { formatRegisters, parseRegisters } from "./text.ts";
export { cHeader } from "./c_header.ts";
