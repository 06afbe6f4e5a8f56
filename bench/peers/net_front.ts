/**
 * This library's driver in the race: a process of its own, which drives a network device behind a vhost-user socket until its input ends.
 * Its argument is a `NetFront` as JSON.
 *
 * @module
 */
import { FrameBurst, VirtioNet } from "../../drivers/net/virtio_net.ts";
import { openHost } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";
import { BURST, templateFrame } from "../frame_pair.ts";

/** What it drives, and how. */
export interface NetFront {
  readonly socket: string;
  readonly packed: boolean;
  readonly mergeable: boolean;
  readonly inOrder: boolean;
  /** Frames go to the device, come from it, or are sent back as they came. */
  readonly direction: Direction;
  readonly frameBytes: number;
}

/** Where frames go, as the driver sees it. */
export type Direction = "transmit" | "receive" | "out and back";

/** Turns between two looks at the clock, and at whether the input has ended. */
const TURNS = 2000;
const SLICE_MS = 20;

async function drive(front: NetFront): Promise<void> {
  const { socket, packed, mergeable, inOrder, direction, frameBytes } = front;
  using host = openHost(`vhost-user:${socket},type=net`);
  using device = host.openVhostUser!("net");
  using transport = openTransport(device);
  const rings = { packed, inOrder, indirect: false };
  await using net = await VirtioNet.open(transport, {
    ...rings,
    mergeable,
    interrupts: "none",
    wait: "poll",
  });
  net.rx[0]!.suppressInterrupts();
  net.tx[0]!.suppressInterrupts();
  const turn = TURN_OF[direction](net, frameBytes);
  let over = false;
  Deno.stdin.read(new Uint8Array(1)).finally(() => over = true);
  console.log("ready");
  while (!over) {
    for (const end = performance.now() + SLICE_MS; performance.now() < end;) {
      for (let i = 0; i < TURNS; i++) turn();
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

const TURN_OF: Readonly<Record<Direction, (net: VirtioNet, frameBytes: number) => () => void>> = {
  transmit: (net, frameBytes) => {
    const [tx] = net.tx;
    const frame = templateFrame(new Uint8Array([0x52, 0x54, 0, 1, 2, 3]), net.mac, frameBytes);
    const slots = new Uint16Array(BURST), lengths = new Uint32Array(BURST).fill(frameBytes);
    const words = new Uint32Array(frame.buffer, 0, frameBytes / 4), { words: into, wordStride } = tx!;
    return () => {
      const count = tx!.reserveBurst(slots);
      for (let i = 0; i < count; i++) {
        const at = slots[i]! * wordStride;
        for (let word = 0; word < words.length; word++) into[at + word] = words[word]!;
      }
      if (count > 0) tx!.transmitBurst(slots, lengths, count);
    };
  },
  receive: (net) => {
    const [rx] = net.rx;
    const burst = new FrameBurst(BURST);
    return () => {
      if (rx!.receiveBurst(burst) > 0) rx!.recycle(burst);
    };
  },
  "out and back": (net) => {
    const [rx] = net.rx, [tx] = net.tx;
    const burst = new FrameBurst(BURST);
    return () => {
      if (rx!.receiveBurst(burst) === 0) return;
      // Fewer frames are on their way than there are slots.
      tx!.forward(rx!, burst);
      rx!.recycle(burst);
    };
  },
};

if (import.meta.main) await drive(JSON.parse(Deno.args[0]!) as NetFront);
