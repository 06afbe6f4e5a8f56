/** A VF that says anything into its mailbox: the PF lives, answers as it must, and the other VFs do not notice. */
import { assert, assertEquals } from "@std/assert";
import { IgbVf } from "../../drivers/net/igb/igbvf.ts";
import {
  CLEAR_TO_SEND,
  DONE,
  firstWord,
  isUnicast,
  macOf,
  MAILBOX_WORDS,
  MESSAGE,
  REFUSED,
} from "../../drivers/net/igb/mailbox.ts";
import { IGBVF_REGISTERS } from "../../drivers/net/igb/vf_registers.ts";
import { Registers } from "../../lib/registers/registers.ts";
import { Bar, ConfigAccess } from "../../lib/vfio/mod.ts";
import { Random } from "../random.ts";
import { anyPathTest } from "./guest_host.ts";
import { LINK_MS, pfAndVfs } from "./igb_rig.ts";
import { bothWays } from "./net_pair.ts";

/** `--env RINGSIDE_IGB_MESSAGES=100000` is the whole campaign. */
const MESSAGES = Number(Deno.env.get("RINGSIDE_IGB_MESSAGES") ?? 1000);
/** So often the other VFs are looked at. */
const LOOKS = 5;
const SEED = 0x82576;
const VLANS = 32;
const OTHERS_VLAN = 7;
const LONGEST = 0x2600;

anyPathTest("igb: a VF that says anything: the PF answers, and other VFs go on", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { pf, devices } = await pfAndVfs(host, path, 3, stack);
  const [a, b] = [
    stack.use(await IgbVf.open(devices[1]!, { wait: "eventfd" })),
    stack.use(await IgbVf.open(devices[2]!, { wait: "eventfd" })),
  ];
  for (const one of [pf, a, b]) assert(await one.waitLink(LINK_MS));
  await a.setVlan(OTHERS_VLAN, true);
  const others = () => {
    const { registers } = pf;
    return [
      pf.vfStates.slice(1).map(({ mac, vlans, clearToSend }) => ({ mac, vlans, clearToSend })),
      [2, 3].map((at) => [registers.get("RAL", at), registers.get("RAH", at)]),
      [1, 2, 3].map((pool) => registers.get("VMOLR", pool)),
      [registers.get("VFRE") & ~1, registers.get("VFTE") & ~1],
      [registers.get("RAL", 0), registers.get("RAH", 0)],
    ];
  };
  const before = others();
  const random = new Random(SEED);
  const counts = { answered: 0, refused: 0, unheard: 0, resets: 0 };
  {
    using bar = new Bar(devices[0]!, 0);
    new ConfigAccess(devices[0]!).setCommand({ memory: true });
    const registers = new Registers(IGBVF_REGISTERS, bar);
    const taken = [pf.mac, a.mac, b.mac];
    const model = new Model(taken);
    const word1OfVlan = () => random.pick([random.below(40), random.next()]);
    for (let message = 0; message < MESSAGES; message++) {
      if (message % Math.ceil(MESSAGES / LOOKS) === 0) {
        await bothWays(a, b, 50, 0);
        await bothWays(b, pf, 20, 0);
        await b.setMac(b.mac);
      }
      if (random.below(50) === 0) {
        registers.set("CTRL", { RST: true });
        pf.service();
        model.reset();
        counts.resets++;
      }
      const words = Array.from({ length: MAILBOX_WORDS }, () => random.next());
      const type = random.pick([1, 2, 2, 3, 4, 4, 4, 5, 6, MESSAGE.control, random.below(0x1_0000)]);
      words[0] = firstWord(type, random.pick([0, 0, 1, 2, 3, random.below(256)]));
      if (random.below(20) === 0) words[0] = random.next();
      if (type === MESSAGE.setVlan) words[1] = word1OfVlan();
      if (type === MESSAGE.setMaxFrame) {
        words[1] = random.pick([63, 64, 1522, LONGEST, LONGEST + 1, words[1]!]);
      }
      if (type === MESSAGE.setMac && random.below(4) === 0) {
        const mac = random.pick(taken);
        words[1] = new DataView(mac.buffer).getUint32(0, true);
        words[2] = new DataView(mac.buffer).getUint16(4, true);
      }
      const way = random.pick(["lock", "lock", "lock", "lock", "lock", "unlocked", "held"]);
      if (way !== "unlocked") {
        registers.set("V2PMAILBOX", { VFU: true });
        assert(registers.fields("V2PMAILBOX").VFU, "the PF does not let go of the mailbox");
      }
      words.forEach((word, at) => registers.write("VMBMEM", word, at));
      // Who holds on to the mailbox while the PF is to read it is not heard: it has the mailbox taken away.
      registers.set("V2PMAILBOX", { REQ: true, VFU: way === "held" });
      pf.service();
      const found = registers.fields("V2PMAILBOX"), answer = registers.read("VMBMEM", 0);
      const where = `message ${message}, ${way}: ${words.map((word) => word.toString(16))}`;
      if (way === "held") {
        assertEquals([found.VFU, found.PFSTS, answer], [false, false, words[0]], where);
        counts.unheard++;
        continue;
      }
      const wanted = model.answer(words);
      assertEquals([found.PFACK, found.PFSTS], [true, wanted !== undefined], where);
      if (wanted === undefined) continue;
      assertEquals(answer.toString(16), wanted.toString(16), where);
      counts.answered++;
      if ((wanted & REFUSED) !== 0) counts.refused++;
      if (random.below(3) > 0) registers.set("V2PMAILBOX", { ACK: true });
      if ((words[0]! & 0xffff) === MESSAGE.reset) {
        assert(isUnicast(macOf(registers.read("VMBMEM", 1), registers.read("VMBMEM", 2))), where);
      }
    }
    const [state] = pf.vfStates;
    assertEquals([state!.messages, state!.refused], [counts.answered, counts.refused]);
    assertEquals(new Set(state!.vlans), model.vlans);
  }
  assertEquals(others(), before);
  console.log(`${MESSAGES} messages, seed ${SEED}: ${JSON.stringify(counts)}`);
  // The same VF, driven as it should be.
  const sane = stack.use(await IgbVf.open(devices[0]!, { wait: "eventfd" }));
  assert(await sane.waitLink(LINK_MS));
  await bothWays(sane, a, 100, 10);
  await bothWays(a, b, 100, 10);
});

/** What the PF knows of the VF, and must answer. */
class Model {
  readonly vlans = new Set<number>();
  #clear = false;
  readonly #taken: readonly Uint8Array[];

  /** @param taken addresses that the VF cannot have */
  constructor(taken: readonly Uint8Array[]) {
    this.#taken = taken;
  }

  reset(): void {
    this.#clear = false;
    this.vlans.clear();
  }

  /** Undefined: what says that it is an answer has none. */
  answer(words: readonly number[]): number | undefined {
    const word = words[0]!, type = word & 0xffff, info = word >>> 16 & 0xff;
    if ((word & (DONE | REFUSED)) !== 0) return undefined;
    if (type === MESSAGE.reset) {
      this.reset();
      this.#clear = true;
      return firstWord(type, 0, DONE);
    }
    const verdict = this.#clear && this.#does(type, info, words) ? DONE : REFUSED;
    return firstWord(type, info, verdict | (this.#clear ? CLEAR_TO_SEND : 0));
  }

  #does(type: number, info: number, words: readonly number[]): boolean {
    const value = words[1]!;
    switch (type) {
      case MESSAGE.setMac: {
        const mac = macOf(value, words[2]!);
        if (info !== 0) return info === 1;
        return isUnicast(mac) && !this.#taken.some((one) => one.toHex() === mac.toHex());
      }
      case MESSAGE.setMulticast:
        return true;
      case MESSAGE.setVlan:
        return this.#vlan(value & 0xfff, info !== 0);
      case MESSAGE.setMaxFrame:
        return value >= 64 && value <= LONGEST;
      case MESSAGE.setPromiscuous:
        return (info & ~2) === 0;
      default:
        return false;
    }
  }

  #vlan(vlan: number, on: boolean): boolean {
    // One place is the other VF's, and may be shared.
    if (on && new Set([...this.vlans, OTHERS_VLAN, vlan]).size > VLANS) return false;
    if (on) this.vlans.add(vlan);
    else this.vlans.delete(vlan);
    return true;
  }
}
