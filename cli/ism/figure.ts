/**
 * `ringside ism FUNCTION figure`
 *
 * @module
 */
import type { IsmDomainState } from "../../lib/emulation/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { bytesText, countText, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { domainOfFunction, domainOfHost, type Standing, standingOf } from "./domain_view.ts";
import { domainSvg } from "./figure_svg.ts";
import { openIsm } from "./opening.ts";
import { writePicture } from "../svg.ts";

const ONLY_ITSELF =
  "this host does not tell of other functions and their regions: the function alone is shown";

/** Shows a domain: functions, regions, who may do what. */
export async function ismFigure(host: Host, options: Of<"ism figure">): Promise<void> {
  const { address } = host.describe(options.function);
  const ofHost = domainOfHost(host, address);
  const domain = ofHost ?? await ownView(host, options);
  const source = ofHost === undefined ? "function" : "host";
  const { output } = options;
  if (output !== undefined) {
    const note = source === "function" ? ONLY_ITSELF : "";
    writePicture(output, domainSvg(domain, note));
  }
  if (options.json) {
    if (output !== "-") printJson({ function: address, source, ...domain, output });
    return;
  }
  if (source === "function") remark(ONLY_ITSELF);
  if (output !== undefined) {
    const { functions, regions } = domain;
    remark(
      `${countText(functions.length, "function")} and ${countText(regions.length, "region")} in ${output}`,
    );
  } else printDomain(domain);
}

async function ownView(host: Host, options: Of<"ism figure">): Promise<IsmDomainState> {
  await using stack = new AsyncDisposableStack();
  return domainOfFunction(await openIsm(host, options, stack));
}

function printDomain(domain: IsmDomainState): void {
  const { cdid, chunkSize, memory, memoryUsed, functions, regions } = domain;
  print(`domain ${domain.domain === "" ? cdid : `${domain.domain}, ${cdid}`}`);
  print(
    `chunks of ${bytesText(chunkSize)}${
      memory === 0 ? "" : `; ${bytesText(memoryUsed)} of ${bytesText(memory)} in use`
    }`,
  );
  print();
  printTable(
    ["FUNCTION", "DEVICE", "CHUNKS", "IN USE", "EVENTS WAITING"],
    functions.map((one) => [
      one.function,
      one.devid,
      String(one.chunks),
      String(one.chunksUsed),
      String(one.eventsWaiting),
    ]),
    { drop: [4], shrink: [] },
  );
  print();
  if (regions.length === 0) return print("no regions");
  printTable(
    [
      "REGION",
      "SIZE",
      "CHUNKS",
      "ALLOCATOR",
      "OTHERS MAY",
      ...functions.map(({ devid }) => `DEVICE ${devid}`),
    ],
    regions.map((region) => [
      region.token,
      bytesText(Number(region.size)),
      String(region.chunks),
      region.allocator,
      region.defaultPermissions || "-",
      ...functions.map(({ devid }) => standingText(standingOf(region, devid))),
    ]),
    { drop: [2, 4], shrink: [] },
  );
  print();
  print("may: r read, w write, a attach, m manage; =rw: attached to be read and written");
}

/** `rwam =rw`: may do all, and is attached to be read and written. */
function standingText({ permissions, attached }: Standing): string {
  const may = permissions || "-";
  return attached === undefined ? may : `${may} =${attached}`;
}
