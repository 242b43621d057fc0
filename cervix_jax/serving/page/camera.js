// Taking a photograph: by the phone's own camera program, or in a window of the page where the computer has a camera.

const dialog = document.getElementById("camera");
const viewfinder = document.getElementById("viewfinder");

function switchOff() {
  for (const track of viewfinder.srcObject?.getTracks() ?? []) track.stop();
  viewfinder.srcObject = null;
}

/** Whether the page itself can show a camera: on this machine or over HTTPS, and not on a phone, whose own is better. */
function canShow() {
  return Boolean(navigator.mediaDevices?.getUserMedia) && !matchMedia("(pointer: coarse)").matches;
}

/** `onFile` gets each photograph that is taken, `onError` is called if there is no camera. */
export function setUpCamera(openButton, phoneInput, onFile, onError) {
  openButton.addEventListener("click", async () => {
    if (!canShow()) {
      phoneInput.click();
      return;
    }
    openButton.disabled = true; // a second click would open a second stream, which nothing would stop
    try {
      viewfinder.srcObject = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 4096 }, height: { ideal: 4096 } },
      });
      await viewfinder.play();
      dialog.showModal();
    } catch {
      switchOff();
      onError();
    } finally {
      openButton.disabled = false;
    }
  });
  document.getElementById("shoot").addEventListener("click", async () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [viewfinder.videoWidth, viewfinder.videoHeight];
    canvas.getContext("2d").drawImage(viewfinder, 0, 0);
    const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    dialog.close();
    onFile(file);
  });
  document.getElementById("close-camera").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    switchOff();
    openButton.focus();
  });
}
