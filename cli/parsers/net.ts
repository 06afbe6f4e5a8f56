/**
 * What the `net` commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import {
  count,
  drivenArgument,
  driving,
  noCommand,
  numberOption,
  opening,
  seconds,
  textArgument,
  textOption,
  textValue,
  wholeNumber,
} from "./shared.ts";

const commands = or(
  command(
    "send",
    object({
      command: constant("net send"),
      function: drivenArgument,
      capture: textArgument("CAPTURE", message`pcap or pcapng file to send; - is standard input.`),
      count,
      repeat: withDefault(numberOption("--repeat", { min: 1 }, message`Send the file N times.`), 1),
      rate: optional(numberOption("--rate", { min: 1, metavar: "FPS" }, message`Frames a second at most.`)),
      strict: option("--strict", {
        description: message`Stop at a packet that is not of link type Ethernet, instead of leaving it out.`,
      }),
    }),
    { description: message`Send the frames of a capture file.` },
  ),
  command(
    "receive",
    object({
      command: constant("net receive"),
      function: drivenArgument,
      capture: argument(textValue("CAPTURE"), {
        description: message`File to write: pcapng when its name ends so, else pcap; - is standard output.`,
      }),
      count,
      seconds,
      promiscuous: option("--promiscuous", { description: message`Take frames for other addresses too.` }),
    }),
    { description: message`Write received frames to a capture file.` },
  ),
  command(
    "loop",
    object({
      command: constant("net loop"),
      function: drivenArgument,
      receiver: textArgument("RECEIVER", message`Function that receives, named as the other one.`),
      capture: optional(
        textOption("--capture", "CAPTURE", message`Send this file's frames, instead of frames made up.`),
      ),
      count,
      frameBytes: withDefault(
        option("--frame-bytes", wholeNumber({ min: 64, max: 9000, metavar: "N" }), {
          description: message`Length of the frames made up; default 64.`,
        }),
        64,
      ),
    }),
    { description: message`Send from one function to another and check every byte.` },
  ),
  { errors: noCommand },
);

/** `net …` */
export const net = command("net", merge(commands, driving, opening), ABOUT.net);
