/** A part of the panel that folds, as the sections of Lab's own side bars do. */
import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

interface IProps {
  id: string;
  title: string;
  open: boolean;
  onToggle(open: boolean): void;
  children: React.ReactNode;
}

export function Section({ id, title, open, onToggle, children }: IProps): JSX.Element {
  const Caret = open ? caretDownIcon : caretRightIcon;
  return (
    <section className="jhssh-Section" aria-labelledby={`jhssh-${id}-title`}>
      <h2 className="jhssh-Section-heading">
        <button
          type="button"
          id={`jhssh-${id}-title`}
          className="jhssh-Section-title"
          aria-expanded={open}
          onClick={() => onToggle(!open)}
        >
          <Caret.react tag="span" className="jhssh-Section-caret" elementSize="normal" />
          {title}
        </button>
      </h2>
      {open && <div className="jhssh-Section-content">{children}</div>}
    </section>
  );
}
