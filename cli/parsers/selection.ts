/**
 * Which functions a command is about, by what they are.
 *
 * @module
 */
import { object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import type { IdsPattern } from "../../lib/host/selection.ts";
import { numberOption, textOption, valueParser } from "./shared.ts";

/** First digits of a class code, by the words for it. */
const CLASSES: Readonly<Record<string, string>> = {
  storage: "01",
  nvme: "0108",
  net: "02",
  display: "03",
  bridge: "06",
  usb: "0c03",
  accelerator: "12",
};

const idsValue = valueParser<IdsPattern>(
  "VENDOR:DEVICE",
  {},
  (input) => {
    const found = /^([0-9a-f]{1,4})?:([0-9a-f]{1,4})?$/i.exec(input);
    if (found === null || input === ":") return undefined;
    const [, vendor, device] = found;
    return {
      vendorId: vendor === undefined ? undefined : parseInt(vendor, 16),
      deviceId: device === undefined ? undefined : parseInt(device, 16),
    };
  },
  (input) => message`${input} are no ids, as 1af4:1041, 1af4: or :1041`,
  ({ vendorId, deviceId }) => `${vendorId?.toString(16) ?? ""}:${deviceId?.toString(16) ?? ""}`,
);

const classValue = valueParser(
  "CLASS",
  "02",
  (input) =>
    Object.hasOwn(CLASSES, input)
      ? CLASSES[input]
      : /^([0-9a-f]{2}){1,3}$/i.test(input)
      ? input.toLowerCase()
      : undefined,
  (input) => message`${input} is no class: net, nvme, storage, … or hexadecimal, as 02 or 0108`,
);

/** @param driver the option's name: a command may have a use of its own for `--driver` */
export const selection = (driver: "--driver" | "--from") =>
  object("Choosing functions", {
    ids: multiple(option("-d", "--device", idsValue, {
      description: message`Those with these ids, as 1af4:1041, 1af4: or :1041; may be repeated.`,
    })),
    classDigits: optional(option("--class", classValue, {
      description:
        message`Those of this class: storage, nvme, net, display, bridge, usb, accelerator, or first digits of the class code, as 0108.`,
    })),
    onDriver: optional(
      textOption(driver, "DRIVER", message`Those that are on this driver now; none: on no driver.`),
    ),
    group: optional(numberOption("--group", { min: 0 }, message`Those of this IOMMU group.`)),
  });
