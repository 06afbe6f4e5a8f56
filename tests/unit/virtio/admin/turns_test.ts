import { assert, assertEquals } from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { FakeOwner, standardAnswer } from "./fake_owner.ts";

for (const [how, vectors] of [["polling", 0], ["interrupts", 4]] as const) {
  Deno.test(`commands that follow on each other's answers leave timers and signals their turns: ${how}`, async () => {
    // Answers are there before anybody can begin to wait for them.
    const device = new FakeOwner(standardAnswer, { vectors });
    device.interrupts = vectors > 0;
    const pf = await VirtioAdmin.open(device.transport);
    const mostAnswers = 100_000;
    let answers = 0, turns = 0;
    const timer = setInterval(() => turns++, 0);
    const follow = async (vf: number) => {
      for (; turns < 3 && answers < mostAnswers; answers++) {
        await pf.member(vf).legacyAsync.writeCommon(14, 2, 1);
      }
    };
    await Promise.all([follow(0), follow(1)]);
    clearInterval(timer);
    assertEquals(pf.admin.statistics.failed, 0);
    assert(turns >= 3, `${answers} answers and ${turns} turns of the event loop`);
    pf.close();
    await pf.settled;
    device.transport.close();
  });
}
