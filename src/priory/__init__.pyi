from .comparison import compare as compare
from .comparison import compare_runs as compare_runs
from .comparison import tune as tune
from .evaluation import encode as encode
from .evaluation import evaluate as evaluate
from .evaluation import evaluate_samples as evaluate_samples
from .evaluation import explore as explore
from .evaluation import impute_rows as impute_rows
from .evaluation import score as score
from .inference import fit as fit
from .inference import load as load
from .inference import pull as pull
from .inference import push as push

__version__: str
