/** Times as people write them: `30s`, `15m`, `2h`, `3d`. */
const unitMs = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** In ms; undefined for what is no such time, or none at all. */
export function durationMs(text: string): number | undefined {
  const [, count, unit] = /^([1-9]\d{0,5})([smhd])$/.exec(text.trim()) ?? [];
  return count === undefined ? undefined : Number(count) * unitMs[unit as keyof typeof unitMs];
}
