/**
 * A machine that boots from a disk of the embedded host: SeaBIOS drives it, and a boot sector of ours reads the disk through the firmware's calls,
 * sums it up, writes the sum behind what it read, and ends the machine.
 */
import { PATHS, SYSROOT_LIB, sysrootCommand } from "../rig/paths.ts";

const SECTOR = 512;
/** Sectors that the boot sector asks for at a time. */
const CHUNK_SECTORS = 64;
const COUNT_AT = 0x17e, PACKET_AT = 0x180;
/** What QEMU ends with when 0x10 is written to its debug port: (0x10 << 1) | 1. */
const DONE = 33;

/** The boot sector's program: 16-bit code at 0000:7c00. The number of chunks lies at 7d7e, the packet of the firmware's call at 7d80. */
const PROGRAM: readonly (readonly [bytes: string, assembly: string])[] = [
  ["fa", "cli"],
  ["31 c0", "xor ax, ax"],
  ["8e d8", "mov ds, ax"],
  ["8e c0", "mov es, ax"],
  ["8e d0", "mov ss, ax"],
  ["bc 00 7c", "mov sp, 7c00"],
  ["fb", "sti"],
  ["fc", "cld"],
  ["88 16 00 7a", "mov [7a00], dl: the drive that it was booted from"],
  ["66 31 db", "xor ebx, ebx: the sum"],
  ["b4 42", "next: mov ah, 42: read by a packet"],
  ["8a 16 00 7a", "mov dl, [7a00]"],
  ["be 80 7d", "mov si, 7d80"],
  ["cd 13", "int 13"],
  ["72 45", "jc fail"],
  ["1e", "push ds"],
  ["b8 00 10", "mov ax, 1000: where the chunk is"],
  ["8e d8", "mov ds, ax"],
  ["31 f6", "xor si, si"],
  ["b9 00 20", "mov cx, 2000: its words of 32 bits"],
  ["66 ad", "sum: lodsd"],
  ["66 d1 c3", "rol ebx, 1"],
  ["66 01 c3", "add ebx, eax"],
  ["e2 f6", "loop sum"],
  ["1f", "pop ds"],
  ["66 83 06 88 7d 40", "add dword [7d88], 40: the next sectors"],
  ["ff 0e 7e 7d", "dec word [7d7e]"],
  ["75 d1", "jnz next"],
  ["66 89 1e 04 7a", "mov [7a04], ebx"],
  ["c7 06 82 7d 01 00", "mov word [7d82], 1: one sector"],
  ["c7 06 84 7d 04 7a", "mov word [7d84], 7a04"],
  ["c7 06 86 7d 00 00", "mov word [7d86], 0"],
  ["b8 00 43", "mov ax, 4300: write by the packet"],
  ["8a 16 00 7a", "mov dl, [7a00]"],
  ["be 80 7d", "mov si, 7d80"],
  ["cd 13", "int 13"],
  ["72 04", "jc fail"],
  ["b0 10", "mov al, 10: done"],
  ["eb 08", "jmp leave"],
  ["88 e0", "fail: mov al, ah: what the firmware says"],
  ["ba f8 03", "mov dx, 3f8"],
  ["ee", "out dx, al"],
  ["b0 11", "mov al, 11"],
  ["ba f4 00", "leave: mov dx, f4"],
  ["ee", "out dx, al"],
  ["f4", "hlt"],
];

/** A disk to boot from: its first sector is the program, whatever else it holds. @param bytes a multiple of 32 KiB, and one sector for the sum */
export function bootable(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const chunks = (bytes.length - SECTOR) / (CHUNK_SECTORS * SECTOR);
  if (!Number.isInteger(chunks) || chunks > 0xffff) throw new TypeError(`a disk of ${bytes.length} bytes`);
  const disk = bytes.slice();
  const view = new DataView(disk.buffer);
  disk.fill(0, 0, SECTOR);
  disk.set(PROGRAM.flatMap(([code]) => code.split(" ").map((byte) => parseInt(byte, 16))));
  view.setUint16(COUNT_AT, chunks, true);
  disk.set([16, 0, CHUNK_SECTORS, 0, 0, 0, 0x00, 0x10], PACKET_AT);
  disk.set([0x55, 0xaa], SECTOR - 2);
  view.setUint32(disk.length - SECTOR, sumOf(disk), true);
  return disk;
}

/** What the boot sector finds. */
function sumOf(disk: Uint8Array<ArrayBuffer>): number {
  const words = new Uint32Array(disk.buffer, 0, (disk.length - SECTOR) / 4);
  let sum = 0;
  for (const word of words) sum = ((sum << 1 | sum >>> 31) + word) >>> 0;
  return sum;
}

/** The sum that is on a disk now. */
export function sumOn(disk: Uint8Array<ArrayBuffer>): number {
  return new DataView(disk.buffer).getUint32(disk.length - SECTOR, true);
}

/** How the machine ended. */
export interface BootEnd {
  /** The boot sector did all of it. */
  readonly done: boolean;
  /** What QEMU and the firmware said. */
  readonly said: string;
}

/** Boots. @param sockets of the functions, of which the disk is one @throws Error when the machine does not end */
export async function bootFromDisk(
  sockets: readonly string[],
  memoryMiB: number,
  timeoutMs: number,
): Promise<BootEnd> {
  const share = `${PATHS.sysroot}/usr/share`;
  const [program = "", ...args] = sysrootCommand("/usr/bin/qemu-system-x86_64", [
    ...["-L", `${share}/qemu`, "-L", `${share}/seabios`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...["-run-with", "exit-with-parent=on", "-accel", "tcg", "-smp", "1", "-m", `${memoryMiB}`],
    ...["-machine", "q35,memory-backend=ram"],
    ...["-object", `memory-backend-memfd,id=ram,size=${memoryMiB}M,share=on`],
    ...["-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
    ...sockets.flatMap((path) => [
      "-device",
      JSON.stringify({ driver: "vfio-user-pci", socket: { type: "unix", path } }),
    ]),
  ]);
  const timeout = AbortSignal.timeout(timeoutMs);
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    env: { QEMU_MODULE_DIR: `${SYSROOT_LIB}/qemu` },
    stdin: "null",
    signal: timeout,
  }).output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  if (timeout.aborted) throw new Error(`the machine did not end within ${timeoutMs / 1000} s:\n${said}`);
  return { done: code === DONE, said: `QEMU ended with status ${code}\n${said}` };
}
