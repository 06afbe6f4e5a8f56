/**
 * A process that drives one function of an emulated host (arguments: directory, address, driver options as JSON, profile). Each line of its standard input is a
 * request, each line of its output the answer: values as JSON, 64-bit numbers as decimal text.
 */
import { VirtioIsm, type VirtioIsmOptions } from "../../../drivers/ism/virtio_ism.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { openTransport, type Profile } from "../../../lib/virtio/mod.ts";
import type { Request } from "./ism_peer.ts";
import { IsmRequests } from "./ism_requests.ts";

const [directory = "", address = "", options = "{}", profile = "spec"] = Deno.args;
using host = EmulatedHost.connect(directory);
using device = host.open(address);
using transport = openTransport(device, { profile: profile as Profile });
await using ism = await VirtioIsm.open(transport, JSON.parse(options) as VirtioIsmOptions);
const requests = new IsmRequests(ism);
const encoder = new TextEncoder();
console.log(JSON.stringify({ value: "ready" }));
let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const answer = await requests.answerTo(JSON.parse(line) as Request);
    await Deno.stdout.write(encoder.encode(`${JSON.stringify(answer)}\n`));
  }
}
