/**
 * What the commands accept that look at functions and change who has them.
 *
 * @module
 */
import { merge, object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import {
  drivenArgument,
  force,
  functionArgument,
  numberArgument,
  opening,
  textArgument,
  textOption,
  vfTokenOfPf,
} from "./shared.ts";

/** `list` */
export const list = command(
  "list",
  object({
    command: constant("list"),
    sriov: option("--sriov", { description: message`Only functions with an SR-IOV capability.` }),
    driver: optional(textOption("--driver", "DRIVER", message`Only functions on this driver.`)),
    all: option("--all", {
      description:
        message`Also the platform devices that are neither virtio-mmio's, nor in an IOMMU group, nor on VFIO.`,
    }),
  }),
  ABOUT.list,
);

/** `show FUNCTION` */
export const show = command(
  "show",
  merge(
    object({
      command: constant("show"),
      function: optional(drivenArgument),
      dump: optional(
        textOption(
          "--dump",
          "FILE",
          message`Instead of FUNCTION: the functions in what lspci -x, -xxx or -xxxx printed, or the raw bytes of one; - is standard input.`,
        ),
      ),
      hex: option("-x", "--hex", { description: message`Add the configuration space in hexadecimal.` }),
    }),
    opening,
  ),
  ABOUT.show,
);

/** `bind FUNCTION` */
export const bind = command(
  "bind",
  object({
    command: constant("bind"),
    function: functionArgument,
    driver: optional(
      textOption(
        "--driver",
        "DRIVER",
        message`Driver to give it to; default vfio-pci, for a platform device vfio-platform.`,
      ),
    ),
    force,
  }),
  ABOUT.bind,
);

/** `restore [FUNCTION]` */
export const restore = command(
  "restore",
  object({
    command: constant("restore"),
    function: optional(textArgument("FUNCTION", message`Only this function and its VFs; default all.`)),
    force,
    forget: option("--forget", {
      description:
        message`Change nothing, and drop what is noted of FUNCTION and its VFs: for a device that is gone for good.`,
    }),
  }),
  ABOUT.restore,
);

/** `sriov PF N` */
export const sriov = command(
  "sriov",
  object({
    command: constant("sriov"),
    function: textArgument("PF", message`Physical function.`),
    count: numberArgument("N", { min: 0, max: 65535 }, message`Number of VFs.`),
    vfToken: vfTokenOfPf,
    autoprobe: optional(option("--autoprobe", choice(["on", "off"], { metavar: "WHEN" }), {
      description:
        message`on or off: whether the kernel binds new VFs to drivers; default off for a PF on vfio-pci.`,
    })),
    force,
  }),
  ABOUT.sriov,
);

/** `status` */
export const status = command(
  "status",
  object({ command: constant("status") }),
  ABOUT.status,
);

/** `doctor` */
export const doctor = command(
  "doctor",
  object({ command: constant("doctor") }),
  ABOUT.doctor,
);
