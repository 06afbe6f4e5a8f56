/**
 * What `trace` and its commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import { noCommand, numberOption, textArgument, textOption, textValue } from "./shared.ts";

const file = message`A trace of --trace, or text of Linux's mmiotrace.`;
const aboutFunction = message`Which of the functions that were opened, from 0; default 0.`;
const oneFunction = withDefault(numberOption("--function", {}, aboutFunction), 0);

const tables = object("Registers by name", {
  table: optional(
    textOption("--table", "FILE", message`Text of a table of registers, besides those that are known.`),
  ),
  bar: withDefault(numberOption("--bar", { min: 0, max: 5 }, message`BAR of that table; default 0.`), 0),
});

const KINDS = [
  "read",
  "write",
  "doorbell",
  "irqs",
  "interrupt",
  "map",
  "unmap",
  "open",
  "reset",
  "close",
  "mark",
] as const;

/** `trace …` */
export const trace = command(
  "trace",
  or(
    command(
      "show",
      merge(
        object({
          command: constant("trace show"),
          file: textArgument("FILE", file),
          function: optional(
            numberOption("--function", {}, message`Only of this function, from 0 in the order of opening.`),
          ),
          kind: multiple(option("--kind", choice(KINDS, { metavar: "KIND" }), {
            description: message`Only records of this kind; may be repeated.`,
          })),
          only: optional(
            textOption(
              "--only",
              "PATTERN",
              message`Only what was done to something with this in its name; with * and ?, whose whole name is so.`,
            ),
          ),
          svg: optional(option("--svg", textValue("FILE"), {
            description: message`Draw it, in lanes, into a file; - is standard output.`,
          })),
        }),
        tables,
      ),
      { description: message`Print or draw a trace: registers by name, decoded.` },
    ),
    command(
      "diff",
      merge(
        object({
          command: constant("trace diff"),
          one: textArgument("FILE", file),
          other: textArgument("FILE", file),
          function: oneFunction,
        }),
        tables,
      ),
      { description: message`Find the first access where two bring-ups part. Exit status 1: they do.` },
    ),
    command(
      "replay",
      merge(
        object({
          command: constant("trace replay"),
          file: textArgument("FILE", message`A trace of --trace.`),
          socket: textArgument(
            "SOCKET",
            message`Path of a socket that is made: --host vfio-user:SOCKET reaches it.`,
          ),
          function: oneFunction,
        }),
        tables,
      ),
      {
        description:
          message`Serve the recorded function to one driver, up to the first access that differs. Exit status 1: one did.`,
      },
    ),
    { errors: noCommand },
  ),
  ABOUT.trace,
);
