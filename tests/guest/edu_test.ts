/** A driver that is not virtio's, over public doors alone, on kernel VFIO. */
import { assertEquals } from "@std/assert";
import { EduDriver } from "./edu_driver.ts";
import { functions, pathTest } from "./guest_host.ts";

pathTest("edu: registers by name, MSI waited for, DMA below 2^28", async (host, path) => {
  const [address] = functions("1234:11e8");
  host.bind(address!);
  using device = host.open(address!, { path });
  using edu = new EduDriver(device);
  assertEquals(await edu.factorial(10), 3_628_800);
  assertEquals(await edu.factorial(13), 6_227_020_800 % 2 ** 32);
  const bytes = Uint8Array.from({ length: 4096 }, (_, at) => at * 7 + (at >> 8));
  assertEquals(await edu.roundTrip(bytes), bytes);
});
