/**
 * What `console` accepts.
 *
 * @module
 */
import { merge, object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import { functionArgument, interrupts, numberOption, opening, wholeNumber } from "./shared.ts";

/** `console FUNCTION` */
export const consoleCommand = command(
  "console",
  merge(
    object({
      command: constant("console"),
      function: functionArgument,
      port: withDefault(numberOption("--port", { min: 0, max: 65535 }, message`Port; default 0.`), 0),
      list: option("--list", { description: message`List the ports instead.` }),
      lingerMs: withDefault(
        option("--linger", wholeNumber({ min: 0, metavar: "MS" }), {
          description: message`How long to wait for more when standard input has ended; default 500.`,
        }),
        500,
      ),
      interrupts,
    }),
    opening,
  ),
  ABOUT.console,
);
