/**
 * What `peek`, `poke` and `regs` accept.
 *
 * @module
 */
import { merge, object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import {
  dryRun,
  functionArgument,
  manyArguments,
  numberOption,
  opening,
  textArgument,
  textOption,
} from "./shared.ts";

const where =
  message`BAR:OFFSET[.WIDTH] as 0:0x14.8, config:0x04.16, a name as common:queue_size or bars[1], or a name of setpci as CAP_EXP+8.w.`;

const named = object("Registers by name", {
  table: optional(
    textOption("--table", "FILE", message`Text of a table of registers, besides those that are known.`),
  ),
  bar: withDefault(numberOption("--bar", { min: 0, max: 5 }, message`BAR of that table; default 0.`), 0),
});

/** `peek FUNCTION WHERE…` */
export const peek = command(
  "peek",
  merge(
    object({ command: constant("peek"), function: functionArgument, places: manyArguments("WHERE", where) }),
    named,
    opening,
  ),
  ABOUT.peek,
);

/** `poke FUNCTION WHERE VALUE` */
export const poke = command(
  "poke",
  merge(
    object({
      command: constant("poke"),
      function: functionArgument,
      place: textArgument("WHERE", where),
      value: textArgument(
        "VALUE",
        message`Decimal, or 0x…; or fields of a register that has a name, as busMaster=1,memorySpace=1.`,
      ),
      peek: multiple(
        textOption(
          "--peek",
          "WHERE",
          message`Read this register afterwards, before the function is closed; may be repeated.`,
        ),
      ),
      dryRun,
    }),
    named,
    opening,
  ),
  ABOUT.poke,
);

/** `regs FUNCTION [PATTERN]` */
export const regs = command(
  "regs",
  merge(
    object({
      command: constant("regs"),
      function: functionArgument,
      pattern: optional(
        textArgument(
          "PATTERN",
          message`Only registers whose name has this in it; with * and ?, whose whole name is so.`,
        ),
      ),
      diff: optional(
        textOption("--diff", "FILE", message`Only what differs from an earlier regs --json, in FILE.`),
      ),
      cHeader: optional(
        textOption(
          "--c-header",
          "PREFIX",
          message`Print the table of --table as a header of C, whose names begin with PREFIX; read nothing.`,
        ),
      ),
      readToClear: option("--read-to-clear", {
        description: message`Read registers that are cleared by it, too.`,
      }),
    }),
    named,
    opening,
  ),
  ABOUT.regs,
);

/** `repl [FUNCTION]` */
export const repl = command(
  "repl",
  merge(
    object({
      command: constant("repl"),
      function: optional(functionArgument),
      bind: option("--bind", {
        description: message`Give the function to VFIO first, and put it back afterwards.`,
      }),
    }),
    named,
    opening,
  ),
  ABOUT.repl,
);
