/**
 * What `queue` and its commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import { drivenArgument, functionArgument, opening, textArgument } from "./shared.ts";

const stateFile = textArgument("FILE", message`JSON file of queue states.`);

/** `queue …` */
export const queue = command(
  "queue",
  or(
    command(
      "save",
      merge(
        object({
          command: constant("queue save"),
          function: functionArgument,
          file: stateFile,
          layout: withDefault(
            option("--layout", choice(["split", "packed"], { metavar: "LAYOUT" }), {
              description: message`split or packed (default): of a function that nobody drives.`,
            }),
            "packed" as const,
          ),
        }),
        opening,
      ),
      {
        description:
          message`Write where a function of profile queue-state stands in its queues: on an emulated host also while it is driven, else what it kept over its last reset.`,
      },
    ),
    command(
      "load",
      merge(
        object({ command: constant("queue load"), function: functionArgument, file: stateFile }),
        opening,
      ),
      {
        description:
          message`Try whether a function takes the states of a file (or of a saved device) and keeps them over a reset. It is left reset.`,
      },
    ),
    merge(
      object({
        command: constant("queue"),
        function: drivenArgument,
        chains: option("--chains", { description: message`List the chains that the device has not read.` }),
      }),
      opening,
    ),
  ),
  ABOUT.queue,
);
