/**
 * What `rng` accepts.
 *
 * @module
 */
import { merge, object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { withDefault } from "@optique/core/modifiers";
import { command, constant } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import { drivenArgument, interrupts, numberArgument, opening, rawOutput } from "./shared.ts";

/** `rng FUNCTION [BYTES]` */
export const rng = command(
  "rng",
  merge(
    object({
      command: constant("rng"),
      function: drivenArgument,
      bytes: withDefault(numberArgument("BYTES", { min: 1, max: 1 << 30 }, message`Default 32.`), 32),
      output: rawOutput,
      interrupts,
    }),
    opening,
  ),
  ABOUT.rng,
);
