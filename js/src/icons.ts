/** The panel's icon: a prompt in a window with a key, in the line weight of Lab's own. */
import { LabIcon } from '@jupyterlab/ui-components';

export const sshIcon = new LabIcon({
  name: 'jhssh:ssh',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3 jp-icon-selectable" fill="#616161">
    <path d="M4 3h16a2 2 0 0 1 2 2v6.5a6 6 0 0 0-2-.9V8H4v11h7.5v2H4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2z"/>
    <path d="M6.7 10.2 10 13.5l-3.3 3.3-1.2-1.2 2.1-2.1-2.1-2.1z"/>
    <path d="M18 12.5a3.5 3.5 0 0 0-1 6.85V23h2v-1h1.5v-1.8H19v-.85a3.5 3.5 0 0 0-1-6.85zm0 2a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3z"/>
  </g>
</svg>`
});
