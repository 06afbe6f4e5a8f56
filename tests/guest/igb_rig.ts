/** What the tests of the 82576 share: its functions opened, and frames with somebody. */
import { assert, assertEquals } from "@std/assert";
import { Igb, type IgbOptions, type NetDevice } from "../../drivers/net/igb/igb.ts";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import type { LinuxHost } from "../../lib/host/linux_host.ts";
import type { VfioDevice } from "../../lib/vfio/mod.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { ID, type KernelPath, physicalFunction } from "./guest_host.ts";
import { echoExchange, icmpOf } from "./host_side/icmp_peer.ts";

/** Of PFs and their VFs. */
export const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
/** A link that is being negotiated. */
export const LINK_MS = 10_000;
/** Each way, of each pair. `--env RINGSIDE_IGB_FRAMES=50000` is the whole campaign. */
export const FRAMES = Number(Deno.env.get("RINGSIDE_IGB_FRAMES") ?? 500);
/** Echoes on their way at once. */
const WINDOW = 16;
const PATIENCE_MS = 15_000;
/** Each has an identifier of its own. */
let callsOfEchoes = 1;

/** The virtio-net function on the same hub. */
export async function partner(
  host: LinuxHost,
  path: KernelPath,
  stack: AsyncDisposableStack,
): Promise<VirtioNet> {
  const address = physicalFunction(ID.net);
  host.bind(address);
  const transport = stack.use(PciModernTransport.open(stack.use(host.open(address, { path }))));
  return stack.use(await VirtioNet.open(transport, { wait: "eventfd" }));
}

/** Our PF, its VFs made and served. */
export interface OpenedPf {
  readonly pf: Igb;
  /** The function that it is on. */
  readonly owner: VfioDevice;
  /** Of the PF. */
  readonly address: string;
  /** Of its VFs. */
  readonly addresses: readonly string[];
}

/** Our PF with VFs that nobody drives yet. */
export async function servedPf(
  host: LinuxHost,
  path: KernelPath,
  vfs: number,
  stack: AsyncDisposableStack,
  options: IgbOptions = {},
): Promise<OpenedPf> {
  const address = physicalFunction(ID.igb);
  host.bind(address);
  const owner = stack.use(host.open(address, { path, vfToken: TOKEN }));
  const pf = stack.use(await Igb.open(owner, { vfs, wait: "eventfd", ...options }));
  const serving = pf.serveVfs();
  stack.defer(async () => {
    pf.close();
    await serving;
  });
  return { pf, owner, address, addresses: host.setVfCount(address, vfs) };
}

/** The same, and the VFs opened by VFIO. */
export async function pfAndVfs(
  host: LinuxHost,
  path: KernelPath,
  vfs: number,
  stack: AsyncDisposableStack,
  options: IgbOptions = {},
): Promise<OpenedPf & { readonly devices: readonly VfioDevice[] }> {
  const opened = await servedPf(host, path, vfs, stack, options);
  for (const vf of opened.addresses) host.bind(vf);
  const devices = opened.addresses.map((vf) => stack.use(host.open(vf, { path, vfToken: TOKEN })));
  return { ...opened, devices };
}

/** A program, to its end. @throws Error with what it says, when it fails */
export async function run(command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, stdin: "null", stdout: "null" })
    .output();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/**
 * Has a kernel's IP stack send frames back: echoes of lengths from the shortest to the longest, several on their way at once.
 * Each byte of what comes back is looked at; echoes of an earlier call are passed over.
 */
export async function echoes(
  net: NetDevice,
  peer: Uint8Array,
  ends: { readonly from: string; readonly to: string },
  count: number,
): Promise<void> {
  const macs = { from: net.mac, to: peer };
  const there = peer.toHex() + macs.from.toHex(), back = macs.from.toHex() + peer.toHex();
  const longest = net.mtu - 28;
  const id = callsOfEchoes++;
  const one = (number: number) => {
    const seed = Math.imul(number + 1, 0x9e37_79b1);
    const payload = Uint8Array.from({ length: number * 13 % longest }, (_, at) => seed + at * 7 >>> at % 9);
    return echoExchange(macs, ends, number & 0xffff, payload, id);
  };
  const wanted: Uint8Array[] = [];
  let sent = 0;
  for (let came = 0; came < count;) {
    for (; sent < count && wanted.length < WINDOW; sent++) {
      const { frame, answer } = one(sent);
      assertEquals(frame.subarray(0, 12).toHex(), there);
      while (!net.send(frame)) assert(await net.waitTransmit(PATIENCE_MS));
      wanted.push(answer);
    }
    const frame = await net.receive(PATIENCE_MS);
    if (frame === undefined) {
      throw new Error(`${came} of ${sent} echoes came, then none for ${PATIENCE_MS} ms`);
    }
    const icmp = icmpOf(frame);
    // What else a kernel says on a link that comes up is for nobody here.
    if (icmp === undefined) continue;
    if ((icmp[4]! << 8 | icmp[5]!) !== id) continue;
    assertEquals([frame.subarray(0, 12).toHex(), icmp.toHex()], [back, wanted.shift()!.toHex()], `${came}`);
    came++;
  }
}
