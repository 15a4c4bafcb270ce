// Decoding here: where the browser knows H.265, it is given the access units that a frame needs.
// (placeholder until the format is merged)
export async function support() { return { ok: false, why: "" }; }
export class Local {}
