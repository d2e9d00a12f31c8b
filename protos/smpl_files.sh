#!/bin/sh
cat <<'END'
Body models (SMPL, SMPL+H, SMPL-X) are licensed to each user by the Max Planck Institute, for research: nobody may pass them on.
Register and download, then put the files into one of these folders, as they come, in folders or not:

  checkpoints/official/smpl    (formerly checkpoints/smpl)    body_models

  SMPL     https://smpl.is.tue.mpg.de     basicModel_neutral_lbs_10_207_0_v1.0.0.pkl (SMPLify), basicmodel_m_lbs_..., SMPL_NEUTRAL.pkl
  SMPL+H   https://mano.is.tue.mpg.de     neutral/model.npz, male/model.npz, female/model.npz (of AMASS), SMPLH_MALE.pkl
  SMPL-X   https://smpl-x.is.tue.mpg.de   SMPLX_NEUTRAL.npz

Every such name is found, whatever its case; --body_model names another folder, or the file. Pickles of 2015 need no chumpy, and
nothing in them is run. Without a body model, visualize.render_mesh writes the mesh of a free body.

Who has accepted the licence can also have the archive that ACTOR and MDM published (SMPL neutral), which is fetched now:

END
cd "$(dirname "$0")/.." && exec "${PYTHON:-python3}" -m protos.fetch smpl "$@"
