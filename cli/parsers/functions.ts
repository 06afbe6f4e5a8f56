/**
 * What the commands accept that look at functions and change who has them.
 *
 * @module
 */
import { merge, object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import { selection } from "./selection.ts";
import {
  dryRun,
  force,
  manyArguments,
  opening,
  secondsValue,
  textArgument,
  textOption,
  vfTokenOfPf,
} from "./shared.ts";

/** `list` */
export const list = command(
  "list",
  merge(
    object({
      command: constant("list"),
      sriov: option("--sriov", { description: message`Only functions with an SR-IOV capability.` }),
      all: option("--all", {
        description:
          message`Also the platform devices that are neither virtio-mmio's, nor in an IOMMU group, nor on VFIO.`,
      }),
      wide: option("--wide", {
        description: message`All columns, uncut, also where they are wider than the terminal.`,
      }),
      columns: optional(
        textOption("--columns", "LIST", message`These columns only, as FUNCTION,DRIVER,GROUP.`),
      ),
    }),
    selection("--driver"),
  ),
  ABOUT.list,
);

/** `show FUNCTION…` */
export const show = command(
  "show",
  merge(
    object({
      command: constant("show"),
      functions: manyArguments(
        "FUNCTION",
        message`PCI addresses, as 0000:01:00.0 or 01:00.0; platform devices, as a003e00.virtio_mmio; interfaces or disks, as eth3; or 03:00.0/net: a managed device that is made for the command.`,
      ),
      dump: optional(
        textOption(
          "--dump",
          "FILE",
          message`Instead of FUNCTION: the functions in what lspci -x, -xxx or -xxxx printed, or the raw bytes of one; - is standard input.`,
        ),
      ),
      hex: option("-x", "--hex", { description: message`Add the configuration space in hexadecimal.` }),
    }),
    selection("--driver"),
    opening,
  ),
  ABOUT.show,
);

/** `bind FUNCTION…` */
export const bind = command(
  "bind",
  merge(
    object({
      command: constant("bind"),
      functions: manyArguments(
        "FUNCTION",
        message`PCI addresses, as 0000:01:00.0 or 01:00.0; platform devices, as a003e00.virtio_mmio; interfaces or disks, as eth3.`,
      ),
      driver: optional(
        textOption(
          "--driver",
          "DRIVER",
          message`Driver to give them to; default vfio-pci, for a platform device vfio-platform.`,
        ),
      ),
      force,
      dryRun,
    }),
    selection("--from"),
  ),
  ABOUT.bind,
);

/** `restore [FUNCTION…]` */
export const restore = command(
  "restore",
  merge(
    object({
      command: constant("restore"),
      functions: manyArguments(
        "FUNCTION",
        message`Only these functions and their VFs, also by interfaces or disks that they had; default all.`,
      ),
      force,
      forget: option("--forget", {
        description:
          message`Change nothing, and drop what is noted of FUNCTION and its VFs: for a device that is gone for good.`,
      }),
      dryRun,
    }),
    selection("--driver"),
  ),
  ABOUT.restore,
);

/** `sriov PF… N` */
export const sriov = command(
  "sriov",
  merge(
    object({
      command: constant("sriov"),
      words: manyArguments(
        "PF",
        message`Physical functions, by address or interface; and behind them N, the number of VFs of each.`,
      ),
      vfToken: vfTokenOfPf,
      autoprobe: optional(option("--autoprobe", choice(["on", "off"], { metavar: "WHEN" }), {
        description:
          message`on or off: whether the kernel binds new VFs to drivers; default off for a PF on vfio-pci.`,
      })),
      force,
      dryRun,
    }),
    selection("--driver"),
  ),
  ABOUT.sriov,
);

/** `status [FUNCTION…]` */
export const status = command(
  "status",
  merge(
    object({
      command: constant("status"),
      functions: manyArguments("FUNCTION", message`Only these functions; default all.`),
    }),
    selection("--driver"),
  ),
  ABOUT.status,
);

/** `top` */
export const top = command(
  "top",
  object({
    command: constant("top"),
    once: option("--once", { description: message`Print what there is now, and end.` }),
    seconds: withDefault(
      option("-t", "--seconds", secondsValue(0.1, 3600), {
        description: message`Time between two looks; default 1.`,
      }),
      1,
    ),
  }),
  ABOUT.top,
);

/** `doctor` */
export const doctor = command(
  "doctor",
  object({ command: constant("doctor") }),
  ABOUT.doctor,
);

/** `control FUNCTION [NAME] [VALUE…]` */
export const control = command(
  "control",
  object({
    command: constant("control"),
    function: textArgument(
      "FUNCTION",
      message`A device of an emulated host, also one that was pulled out: 01:00.0, a003e00.virtio_mmio or vhost-user:net0.`,
    ),
    name: optional(textArgument("NAME", message`What to look at or change; default: show all that can be.`)),
    values: manyArguments("VALUE", message`What it shall be; default: show how it is.`),
  }),
  ABOUT.control,
);
