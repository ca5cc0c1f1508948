//! Several journals in one folder, each of one process: while a process hands its work to the next
//! one, both run. It must not know what a journal says.
//!
//! The folder itself is the first place, `beside-1` and so on in it are the others. Each has its
//! lock, so what is in a place without one was left behind.

use std::path::{Path, PathBuf};

use super::{Journal, JournalError, JournalSettings, RecoveredJournal, append, segment};

/// Processes that can end at a time while another one serves.
const MOST: u32 = 31;

impl Journal {
    /// Opens the journal of the only process of a folder.
    ///
    /// # Errors
    /// Those of [`Self::open`]; also when a process has another place of the folder.
    pub fn open_alone(settings: JournalSettings) -> Result<(Self, RecoveredJournal), JournalError> {
        let folder = settings.folder.clone();
        let opened = Self::open(settings)?;
        for place in beside(&folder) {
            if place.is_dir() {
                drop(append::lock(&place)?);
            }
        }
        Ok(opened)
    }

    /// Opens the journal of one process more, in a place of `settings.folder` that none has.
    ///
    /// # Errors
    /// Those of [`Self::open`]; when every place is taken, the last one's.
    pub fn open_beside(
        settings: &JournalSettings,
    ) -> Result<(Self, RecoveredJournal), JournalError> {
        let mut last = Err(JournalError::Locked(settings.folder.clone()));
        for folder in places(&settings.folder) {
            let settings = JournalSettings {
                folder,
                ..settings.clone()
            };
            last = Self::open(settings);
            if !matches!(last, Err(JournalError::Locked(_))) {
                break;
            }
        }
        last
    }

    /// Returns true if a process has locked the place.
    #[must_use]
    pub fn is_locked(place: &Path) -> bool {
        matches!(append::lock(place), Err(JournalError::Locked(_)))
    }

    /// Deletes everything, for the journal of an ended process once all of it was moved.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn discard(self) -> Result<(), JournalError> {
        for number in segment::list(self.folder())? {
            let path = segment::path(self.folder(), number);
            std::fs::remove_file(&path).map_err(JournalError::disk(&path))?;
        }
        Ok(())
    }
}

/// The places of a folder that hold something, but for `own`: of processes that run, or that left
/// it behind.
#[must_use]
pub fn others(folder: &Path, own: &Path) -> Vec<PathBuf> {
    let places = places(folder).filter(|place| place != own);
    places.filter(|place| holds_something(place)).collect()
}

fn places(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::once(folder.to_owned()).chain(beside(folder))
}

/// The places of a folder but the first.
pub(super) fn beside(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=MOST).map(move |number| folder.join(format!("beside-{number}")))
}

pub(super) fn holds_something(place: &Path) -> bool {
    segment::list(place).is_ok_and(|numbers| !numbers.is_empty())
}
