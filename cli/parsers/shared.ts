/**
 * Arguments and options that several commands have.
 *
 * @module
 */
import { object } from "@optique/core/constructs";
import { type Message, message, text } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import type { NonEmptyString } from "@optique/core/nonempty";
import type { OptionName } from "@optique/core/usage";
import { choice, string, type ValueParser, type ValueParserResult } from "@optique/core/valueparser";
import { parseSize } from "../byte_size.ts";
import { completionsOf } from "../completions.ts";

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** Any text. What it stands for says what a shell completes it with. */
export const textValue = (metavar: NonEmptyString): ValueParser<"sync", string> => ({
  ...string({ metavar }),
  suggest: (prefix) => completionsOf(metavar, prefix),
});

/** An argument of any text. */
export const textArgument = (metavar: NonEmptyString, description: Message) =>
  argument(textValue(metavar), { description });

/** Arguments of any text, as many as there are; also none. */
export const manyArguments = (metavar: NonEmptyString, description: Message) =>
  multiple(textArgument(metavar, description));

/** An option with any text. */
export const textOption = (name: OptionName, metavar: NonEmptyString, description: Message) =>
  option(name, textValue(metavar), { description });

/** A whole number in decimal. */
export function wholeNumber(
  { min, max, metavar }: Range & { readonly metavar: NonEmptyString },
): ValueParser<"sync", number> {
  const least = min ?? 0, most = max ?? Number.MAX_SAFE_INTEGER;
  const range = max === undefined ? `of at least ${least}` : `from ${least} to ${max}`;
  return valueParser(
    metavar,
    least,
    (input) => {
      const value = /^\d{1,16}$/.test(input) ? Number(input) : NaN;
      return value >= least && value <= most ? value : undefined;
    },
    (input) => message`${input} is no whole number ${text(range)}`,
  );
}

/** An argument that is a whole number. */
export const numberArgument = (metavar: NonEmptyString, range: Range, description: Message) =>
  argument(wholeNumber({ ...range, metavar }), { description });

/** An option with a whole number, which help calls N if nothing else is said. */
export const numberOption = (
  name: OptionName,
  { metavar = "N", ...range }: Range & { readonly metavar?: NonEmptyString },
  description: Message,
) => option(name, wholeNumber({ ...range, metavar }), { description });

/** Values of a kind of a command's own. @param read undefined for what is none */
export function valueParser<T>(
  metavar: ValueParser<"sync", T>["metavar"],
  placeholder: T,
  read: (input: string) => T | undefined,
  wrong: (input: string) => Message,
  format: (value: T) => string = String,
): ValueParser<"sync", T> {
  const parse = (input: string): ValueParserResult<T> => {
    const value = read(input);
    return value === undefined ? { success: false, error: wrong(input) } : { success: true, value };
  };
  return { mode: "sync", metavar, placeholder, parse, format };
}

/** A time, which may have a fraction. */
export const secondsValue = (min: number, max: number): ValueParser<"sync", number> =>
  valueParser(
    "S",
    1,
    (input) => {
      const value = /^\d+(\.\d+)?$/.test(input) ? Number(input) : NaN;
      return value >= min && value <= max ? value : undefined;
    },
    (input) => message`${input} is no number of seconds from ${text(`${min} to ${max}`)}`,
  );

/** A size. */
export const sizeValue = valueParser(
  "BYTES",
  1,
  (input) => parseSize(input) || undefined,
  (input) => message`${input} is no size: a number of bytes, or of K, M or G`,
);

/** Options that every command has. */
export const globals = object("Everywhere", {
  json: option("--json", { description: message`Print the result, or the error, as JSON.` }),
  host: optional(option("--host", textValue("HOST"), {
    description:
      message`linux (this machine), the directory of an emulated host, vfio-user:SOCKET, or vhost-user:SOCKET,type=net (blk, console, rng); default RINGSIDE_HOST, else linux. Not for demo and emulate.`,
  })),
});

/** The function that a command is about. */
export const functionArgument = textArgument(
  "FUNCTION",
  message`PCI address, as 0000:01:00.0 or 01:00.0, or a platform device, as a003e00.virtio_mmio.`,
);

/** The same of a command that drives devices, also managed ones. */
export const drivenArgument = textArgument(
  "FUNCTION",
  message`PCI address, as 0000:01:00.0 or 01:00.0; a platform device, as a003e00.virtio_mmio; or 03:00.0/net: a managed device that is made for the command.`,
);

/** Go on in spite of the guards. */
export const force = option("--force", {
  description:
    message`Go on although the host uses the function (an address, a default route, a mount, swap).`,
});

/** Change nothing. */
export const dryRun = option("--dry-run", {
  description:
    message`Look at all that could keep it from being done, print what would be, and change nothing.`,
});

/** How to open a function. */
export const opening = object("Opening a function", {
  path: optional(option("--path", choice(["group", "cdev"], { metavar: "PATH" }), {
    description: message`group or cdev; default cdev where the kernel has it, else group.`,
  })),
  vfToken: optional(
    textOption("--vf-token", "UUID", message`Token of the PF, for a VF whose PF is on vfio-pci.`),
  ),
  unsafe: option("--enable-unsafe-noiommu-mode", {
    description: message`Open without an IOMMU: the device can then reach all of memory.`,
  }),
  assumeAccessPlatform: option("--assume-access-platform", {
    description:
      message`Behind an IOMMU, drive also a device that does not offer ACCESS_PLATFORM: it is known to go through the IOMMU.`,
  }),
  profile: optional(option("--profile", choice(["spec", "mmio-v3", "mmio-msi-v2"], { metavar: "PROFILE" }), {
    description:
      message`Text that the registers of a virtio-mmio device follow: spec (default), or the draft mmio-v3 or mmio-msi-v2.`,
  })),
  trace: optional(
    textOption(
      "--trace",
      "FILE",
      message`Record register accesses, interrupts and DMA mappings in a file, for ringside trace; -: each access to a virtio register, by name, on standard error.`,
    ),
  ),
  tvq: optional(
    textOption(
      "--tvq",
      "SETTINGS",
      message`How a management function differs: layout=packed,header=tight,….`,
    ),
  ),
});

/** Token that a PF gets. */
export const vfTokenOfPf = optional(option("--vf-token", textValue("UUID"), {
  description: message`Token to set on a PF that is on vfio-pci: its VFs then open with it only.`,
}));

/** Which interrupts to use. */
export const interrupts = withDefault(
  option("--interrupts", choice(["auto", "msix", "msi", "intx", "none"], { metavar: "KIND" }), {
    description: message`auto (default), msix, msi (virtio-mmio), intx: the interrupt line, or none: poll.`,
  }),
  "auto" as const,
);

/** How to drive a function. */
export const driving = object("Driving", {
  interrupts,
  queueSize: optional(
    numberOption("--queue-size", { min: 2, max: 32768 }, message`Descriptors a queue; a power of two.`),
  ),
});

/** Raw bytes into a file. */
export const rawOutput = optional(option("-o", "--output", textValue("FILE"), {
  description: message`Write raw bytes to a file (- is standard output) instead of hexadecimal.`,
}));

/** Stop after a number of frames. */
export const count = optional(option("-n", "--count", wholeNumber({ min: 1, metavar: "N" }), {
  description: message`Stop after N frames.`,
}));
/** Stop after a time. */
export const seconds = optional(option("-t", "--seconds", wholeNumber({ min: 1, metavar: "S" }), {
  description: message`Stop after S seconds.`,
}));

/** Said when a group of commands is given none. */
export const noCommand = { noMatch: message`No command; --help lists them.` };
