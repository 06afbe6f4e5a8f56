/**
 * What the `bench` commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { type Message, message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import {
  driving,
  noCommand,
  numberOption,
  opening,
  secondsValue,
  sizeValue,
  textArgument,
  textOption,
  valueParser,
} from "./shared.ts";

/** `1,8,32`: no more than 64 numbers from 1 to 32768. */
const listValue = valueParser<readonly number[]>(
  "LIST",
  [1],
  (input) => {
    const numbers = input.split(",").map((one) => (/^[1-9]\d{0,4}$/.test(one) ? Number(one) : NaN));
    return numbers.length <= 64 && numbers.every((one) => one <= 32768) ? numbers : undefined;
  },
  (input) => message`${input} is no list of numbers, as 1,8,32.`,
  (numbers) => numbers.join(","),
);

const macValue = valueParser<Uint8Array<ArrayBuffer>>(
  "MAC",
  new Uint8Array(6),
  (input) =>
    /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(input)
      ? Uint8Array.from(input.split(":"), (byte) => parseInt(byte, 16))
      : undefined,
  (input) => message`${input} is no MAC address, as 52:54:00:12:34:56.`,
  (mac) => Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":"),
);

const target = optional(
  textArgument(
    "FUNCTION",
    message`Function, named as in other commands. Default: an embedded host of its own; with --host the only function of this kind.`,
  ),
);

const list = (name: "--depth" | "--burst", standard: readonly number[], description: Message) =>
  withDefault(option(name, listValue, { description }), standard);

const sized = (standard: number, description: Message) =>
  withDefault(option("--size", sizeValue, { description }), standard);

const measuring = object("Measuring", {
  seconds: withDefault(
    option("-t", "--seconds", secondsValue(0.01, 3600), {
      description: message`How long each is measured; default 1.`,
    }),
    1,
  ),
  queues: withDefault(
    numberOption("--queues", { min: 1, max: 1024 }, message`Request queues or queue pairs; default 1.`),
    1,
  ),
  svg: optional(textOption("--svg", "FILE", message`Write a plot (- is standard output).`)),
});

const commands = or(
  command(
    "net",
    object({
      command: constant("bench net"),
      function: target,
      receiver: optional(
        textArgument(
          "RECEIVER",
          message`Function that sends back what comes. Without: frames are sent only.`,
        ),
      ),
      burst: list("--burst", [1, 8, 32, 128], message`Frames that are sent at once; default 1,8,32,128.`),
      size: sized(64, message`Bytes of a frame; default 64.`),
      to: optional(option("--to", macValue, {
        description: message`Where frames of one function are addressed to; default its own address.`,
      })),
    }),
    { description: message`Frames a second, and how long they take, by burst.` },
  ),
  command(
    "blk",
    object({
      command: constant("bench blk"),
      function: target,
      depth: list("--depth", [1, 4, 16, 64], message`Requests in flight; default 1,4,16,64.`),
      size: sized(4096, message`Bytes of a request; default 4096.`),
      write: option("--write", { description: message`Write, which destroys what is on the device.` }),
      force: option("--force", { description: message`With --write: nothing on the device is needed.` }),
    }),
    { description: message`Requests a second at random places, and how long they take, by depth.` },
  ),
  { errors: noCommand },
);

/** `bench …` */
export const bench = command("bench", merge(commands, measuring, driving, opening), ABOUT.bench);
