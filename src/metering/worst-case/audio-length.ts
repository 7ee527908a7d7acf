// The longest that an audio file can play, from its size and its first bytes. Only formats whose bit rate has a floor
// are known: a compressed file of silence may be hours in a few bytes.

/** Bytes at the beginning of a file that {@link longestAudioMs} looks at. */
export const AUDIO_HEAD_BYTES = 44

/**
 * How long an audio file can play at most, ms: an MP3 at 8 kbit/s, the lowest rate of its format (ISO/IEC 13818-3, table
 * of bit rates), and a WAV of samples at the rate that its header declares.
 *
 * @param head - Its first {@link AUDIO_HEAD_BYTES} bytes.
 * @param bytes - Its size.
 * @returns `undefined` for any other format.
 */
export function longestAudioMs(head: Uint8Array, bytes: number): number | undefined {
  if (head.length < AUDIO_HEAD_BYTES) return undefined
  if (isMp3(head)) return bytes
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  const word = (at: number): string => String.fromCharCode(...head.subarray(at, at + 4))
  if (word(0) !== 'RIFF' || word(8) !== 'WAVE' || word(12) !== 'fmt ') return undefined
  // 1 and 3 are plain samples, whole and floating; anything else is a codec.
  const bytesPerSecond = [1, 3].includes(view.getUint16(20, true)) ? view.getUint32(28, true) : 0
  return bytesPerSecond === 0 ? undefined : Math.ceil((bytes * 1_000) / bytesPerSecond)
}

/** A tag, or a frame of layer III whose rate is not free. */
function isMp3(head: Uint8Array): boolean {
  if (String.fromCharCode(...head.subarray(0, 3)) === 'ID3') return true
  return head[0] === 0xff && (head[1]! & 0xe6) === 0xe2 && head[2]! >> 4 !== 0
}
