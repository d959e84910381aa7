// Shown by anywidget: the microphone, or a chosen file, becomes 16-bit samples for the kernel.
const LOSSLESS = "audio/webm;codecs=pcm"; // Chrome and Edge; other browsers choose a codec
const RAW = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

function render({ model, el }) {
  el.innerHTML = `<button>Record</button> <label>or choose a recording: <input type="file" accept="audio/*"></label>
    <p role="status"></p><p aria-live="polite" style="font-size: 1.3em"></p>`;
  const [button, file, status, text] = ["button", "input", "[role]", "[aria-live]"].map(css => el.querySelector(css));
  const limit = model.get("max_seconds");
  let stop = null; // ends the recording at work
  const say = (words, heard = "") => { status.textContent = words; text.textContent = heard; };
  const attempt = action => action().catch(error => say(`Not possible: ${error.message}. You can choose a recording.`));

  async function record() {
    if (!navigator.mediaDevices) throw new Error("Browsers allow the microphone on https and localhost only");
    button.disabled = true; // asking for permission can take a while
    const stream = await navigator.mediaDevices.getUserMedia({ audio: RAW }).finally(() => { button.disabled = false; });
    const recorder = new MediaRecorder(stream, MediaRecorder.isTypeSupported(LOSSLESS) ? { mimeType: LOSSLESS } : {});
    recorder.ondataavailable = event => attempt(() => send(event.data, "The recording"));
    recorder.start();
    const timer = setTimeout(() => stop(), 1000 * limit);
    stop = () => {
      clearTimeout(timer);
      recorder.stop();
      stream.getTracks().forEach(track => track.stop());
      [stop, button.textContent] = [null, "Record"];
    };
    button.textContent = "Stop";
    say("Recording: press the button again at the end.");
  }

  async function send(blob, name) {
    const audio = await new OfflineAudioContext(1, 1, model.get("rate")).decodeAudioData(await blob.arrayBuffer());
    if (audio.duration > limit + 1) throw new Error(`${name} is ${audio.duration.toFixed()} s long; at most ${limit} s here`);
    const channels = [...Array(audio.numberOfChannels).keys()].map(number => audio.getChannelData(number));
    const mean = place => channels.reduce((sum, channel) => sum + channel[place], 0) / channels.length;
    const samples = Int16Array.from(channels[0], (_, place) => Math.max(-32768, Math.min(32767, Math.round(32768 * mean(place)))));
    if (!samples.some(Boolean)) throw new Error(`${name} is digital silence (is the microphone muted?)`);
    say("Transcribing ...");
    model.send({}, undefined, [samples.buffer]);
  }

  button.onclick = () => stop ? stop() : attempt(record);
  file.onchange = () => file.files.length && attempt(() => send(file.files[0], file.files[0].name)).then(() => { file.value = ""; });
  model.on("msg:custom", answer => say(answer.status, answer.text));
  say(`Press the button and speak, at most ${limit} s.`);
}

export default { render };
